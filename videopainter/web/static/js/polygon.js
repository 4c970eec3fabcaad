// A polygon in the making: corner after corner, closed by Enter, a double click, or a click on its first corner.

import { scale } from "./geometry.js";
import { note, state } from "./state.js";

const REACH = 8; // pixels of the screen within which two corners are one
let corners = [];
let adds = true;
let frame = 0;
let onClosed = () => {};

export function setUp(closed) {
  onClosed = closed;
}

// Whether one is being drawn; one of another frame is given up.
export function drawing() {
  if (corners.length && frame !== state.frame) drop();
  return corners.length > 0;
}

export function add(at, positive) {
  const begun = drawing();
  if (!begun) [adds, frame] = [positive, state.frame];
  const last = begun && meets(at, corners.at(-1));
  if (corners.length > 2 && (last || meets(at, corners[0]))) return close();
  if (!last) corners.push(at);
  const how = matchMedia("(pointer: coarse)").matches
    ? "a tap on the first one closes, the button Polygon leaves."
    : "Enter or a double click closes, Backspace takes the last one back, Esc leaves.";
  note(`${counted()}; ${how}`);
}

export function close() {
  if (corners.length < 3) return note("A polygon needs three corners or more.");
  const points = corners.map(({ x, y }) => [x, y]);
  corners = [];
  note();
  onClosed({ kind: "polygon", positive: adds, points });
}

export function back() {
  corners.pop();
  note(corners.length ? `${counted()}.` : "");
}

const counted = () => `${corners.length} corner${corners.length > 1 ? "s" : ""}`;

export function drop() {
  corners = [];
  note();
}

function meets(a, b) {
  const ratio = window.devicePixelRatio || 1;
  return Math.hypot(a.x - b.x, a.y - b.y) * scale() < REACH * ratio;
}

// `at`: from the video to the canvas; `to`: where the next corner would be, or null; `unit`: a pixel of the page.
export function draw(context, at, to, unit) {
  if (!drawing()) return;
  for (const [colour, width] of [["#000a", 4], [adds ? "#28dc3c" : "#6f92ff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * unit;
    outline(context, [...corners, ...(to ? [to] : [])].map(at), false);
  }
  for (const one of corners) {
    context.beginPath();
    context.arc(...at(one), 4 * unit, 0, 7);
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = unit;
    context.strokeStyle = "#000";
    context.stroke();
  }
}

export function outline(context, places, closed) {
  context.beginPath();
  places.forEach((place, i) => (i ? context.lineTo(...place) : context.moveTo(...place)));
  if (closed) context.closePath();
  context.stroke();
}
