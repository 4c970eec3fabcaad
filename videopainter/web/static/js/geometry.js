// Between the video's pixels and the canvas's: zoom and what is in view.

import { $, state, update } from "./state.js";

export const canvas = $("canvas");
const view = { zoom: 1, x: 0, y: 0 }; // zoom 1 shows the whole picture; x, y: its centre in pixels of the video

export function fit() {
  Object.assign(view, { zoom: 1 });
  if (state.project) Object.assign(view, { x: state.project.width / 2, y: state.project.height / 2 });
  update();
}

export function zoomBy(factor) {
  view.zoom = Math.min(40, Math.max(1, view.zoom * factor));
  if (view.zoom === 1) fit();
  update();
}

export function zoomAt(clientX, clientY, factor) {
  const before = toVideo(clientX, clientY);
  view.zoom = clamp(view.zoom * factor, 1, 40);
  const after = toVideo(clientX, clientY);
  view.x += before.x - after.x;
  view.y += before.y - after.y;
  if (view.zoom === 1) fit();
  update();
}

export function panBy(dx, dy) {
  const ratio = canvas.width / canvas.clientWidth / scale();
  view.x = clamp(view.x - dx * ratio, 0, state.project.width);
  view.y = clamp(view.y - dy * ratio, 0, state.project.height);
  if (view.zoom === 1) fit();
  update();
}

export function scale() {
  const { width, height } = state.project;
  const wide = state.result && state.view === "sides" ? 2 * width : width;
  return view.zoom * Math.min(canvas.width / wide, canvas.height / height);
}

export function place(pane = 0) {
  const s = scale();
  const sides = state.result && state.view === "sides";
  const middle = sides ? canvas.width * (0.25 + 0.5 * pane) : canvas.width / 2;
  return { s, left: middle - view.x * s, top: canvas.height / 2 - view.y * s };
}

// A place on the page, in pixels of the video; pixel centres lie at whole numbers, as the library counts.
export function toVideo(clientX, clientY) {
  const box = canvas.getBoundingClientRect();
  const ratio = canvas.width / box.width;
  const { s, left, top } = place();
  return { x: ((clientX - box.left) * ratio - left) / s - 0.5, y: ((clientY - box.top) * ratio - top) / s - 0.5 };
}

export const inside = ({ x, y }) => x >= -0.5 && y >= -0.5 && x < state.project.width - 0.5 && y < state.project.height - 0.5;
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export function clamped({ x, y }) {
  return { x: clamp(x, 0, state.project.width - 1), y: clamp(y, 0, state.project.height - 1) };
}

// Where the line between before and after is: a part of the video's width, or of what of it is in view.
export function line() {
  const { s, left } = place();
  const from = Math.max(0, left);
  const wide = Math.min(canvas.width, left + state.project.width * s) - from;
  return { from, wide, x: from + state.split * wide };
}
