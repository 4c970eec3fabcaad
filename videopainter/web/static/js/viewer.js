// The frame, large: masks and prompts over it, zoom, the tools' gestures, before and after.

import { frameUrl, masksUrl, resultUrl } from "./api.js";
import { canvas, clamp, clamped, inside, line, panBy, place, scale, toVideo, zoomAt } from "./geometry.js";
import * as polygon from "./polygon.js";
import { Unwanted, have, onlyWanted, picture } from "./pictures.js";
import { $, note, resultJobs, resultTitle, state, update } from "./state.js";

const CURSORS = { pan: "grab", brush: "none", eraser: "none" };
const AHEAD = 3;
const point = { on: false, x: 0, y: 0 }; // the cross that the keyboard moves
let gesture = null; // what a pointer is doing: {kind, points | x0.. | from}
let hover = null;
let onPrompt = () => {};
const pointers = new Map();

const context = canvas.getContext("2d");

export function setUp(prompted) {
  onPrompt = prompted;
  polygon.setUp(prompted);
  new ResizeObserver(() => update()).observe($("stage"));
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", () => {
    pointers.clear();
    gesture = null;
    update();
  });
  canvas.addEventListener("pointerleave", () => {
    hover = null;
    update();
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("keydown", pointWithKeys);
}

// --- drawing ------------------------------------------------------------------------------------------------

// The width at which frames are fetched: as shown, in steps, so that the same pictures serve again.
function pictureWidth() {
  const shown = state.project.width * scale();
  const steps = [320, 480, 640, 960, 1280, 1920, 2560, 3840];
  const width = steps.find((step) => step >= shown) || Infinity;
  return width >= state.project.width ? null : width;
}

export const originalAt = (n) => frameUrl(state.project.id, n, pictureWidth());

export function resultAt(job, n, of) {
  const { first, count, numbers } = job.facts;
  // Of a result with fewer frames, the one that is on the screen at that time.
  const k = numbers ? Math.max(0, numbers.findLastIndex((number) => number <= n)) : clamp(n - first, 0, count - 1);
  return resultUrl(job.id, k, pictureWidth(), of);
}

function masksAt(n) {
  const { project } = state;
  const margin = (state.margin / 2) * (project.height / 480);
  const width = pictureWidth() || project.width;
  return masksUrl(project.id, n, width, margin.toFixed(1), project.version);
}

let lastMasks = null; // shown until the new ones are there: {frame, bitmap}

export function draw() {
  if (!state.project || $("editor").hidden) return;
  const box = $("stage").getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const size = [Math.max(1, Math.round(box.width * ratio)), Math.max(1, Math.round(box.height * ratio))];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const job = state.result && resultJobs(state.project).find((one) => one.id === state.result);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = scale() < 4;
  const complete = job ? drawResult(job) : drawSelection();
  describe(job, complete);
}

// What is shown, for those who cannot see it; busy until all of it is there.
function describe(job, complete) {
  const { project, frame, flip } = state;
  const seen = { split: "before and after", result: "the result", original: "the original", mask: "the masks", difference: "the difference", sides: "side by side", seen: "what other frames show" };
  const what = job ? `${seen[flip ? "original" : state.view]}, ` : "";
  const names = project.objects.filter(({ hidden }) => !hidden).map(({ name }) => name);
  const marked = job || !names.length ? "" : ` Selected: ${names.join(", ")}.`;
  canvas.setAttribute("aria-label", `${what}frame ${frame} of ${project.frames}.${marked}${job ? "" : " Press Enter to point with the arrow keys."}`);
  canvas.setAttribute("aria-busy", String(!complete || state.busy > 0));
}

function drawSelection() {
  const n = state.frame;
  const proxy = $("proxy");
  const base = originalAt(n);
  const bitmap = have(base);
  if (state.playing && !proxy.hidden && proxy.readyState >= 2) blit(proxy);
  else if (bitmap) blit(bitmap);
  else if (lastBase) blit(lastBase);
  if (bitmap) lastBase = bitmap;
  const wanted = [base];
  // Back first: those frames are still in the decoder's hands; those after have it go on.
  for (let i = 1; i <= AHEAD; i++) wanted.push(...[n - i].filter(exists).map(originalAt));
  for (let i = 1; i <= AHEAD; i++) wanted.push(...[n + i].filter(exists).map(originalAt));
  const masks = masksAt(n);
  onlyWanted([...wanted, masks]);
  want(base);
  const overlay = have(masks);
  if (overlay) lastMasks = { frame: n, bitmap: overlay };
  else if (!state.playing || proxy.hidden) want(masks);
  if (lastMasks && lastMasks.frame === n) blit(lastMasks.bitmap);
  if (bitmap && !state.playing) for (const address of wanted.slice(1)) want(address, false);
  drawPrompts(n);
  drawGesture();
  return Boolean(bitmap && overlay);
}

let lastBase = null;
let lastResult = null;
const exists = (n) => n >= 0 && n < state.project.frames;

function want(address, urgent = true) {
  if (have(address)) return;
  picture(address, urgent).then(
    () => update(),
    (error) => urgent && !(error instanceof Unwanted) && note(error.message),
  );
}

function blit(bitmap, pane = 0) {
  const { s, left, top } = place(pane);
  if (bitmap instanceof ImageBitmap && bitmap.width === 0) return; // it was let go of
  context.drawImage(bitmap, left, top, state.project.width * s, state.project.height * s);
}

function drawResult(job) {
  const { first, count, numbers } = job.facts;
  const n = clamp(state.frame, first, numbers ? numbers.at(-1) : first + count - 1);
  const before = originalAt(n);
  const after = resultAt(job, n);
  const second = state.other && resultJobs(state.project).find((one) => one.id === state.other);
  const beside = second ? resultAt(second, n) : before;
  const known = state.view === "seen" && job.facts.seen ? resultAt(job, n, "seen") : before;
  const wanted = [before, after, beside, known, ...(state.view === "mask" ? [masksAt(n)] : [])];
  onlyWanted(wanted);
  for (const address of wanted) want(address);
  const complete = wanted.every(have);
  let [original, result, other] = [have(before), have(after), have(beside)];
  // What was shown stays until all of the next frame is there.
  if (original && result && other) lastResult = { of: job.id, original, result, other };
  else if (lastResult?.of === job.id) ({ original, result, other } = lastResult);
  else return false;
  const seen = state.flip ? "original" : state.view;
  if (seen === "original") blit(original);
  else if (seen === "seen") blit(have(known) ?? original);
  else if (seen === "result") blit(result);
  else if (seen === "mask") {
    blit(original);
    if (have(masksAt(n))) blit(have(masksAt(n)));
  } else if (seen === "difference") difference(original, result);
  else if (seen === "sides") {
    half(other, 0);
    half(result, 1);
    label(second ? resultTitle(second) : "Original", 0);
    label(resultTitle(job), 1);
  } else split(original, result);
  return complete;
}

function half(bitmap, pane) {
  context.save();
  context.beginPath();
  context.rect((pane * canvas.width) / 2, 0, canvas.width / 2, canvas.height);
  context.clip();
  blit(bitmap, pane);
  context.restore();
}

// Which of two is which.
function label(text, pane) {
  const unit = Math.max(1, canvas.width / canvas.clientWidth);
  const [left, room] = [(pane * canvas.width) / 2 + 8 * unit, canvas.width / 2 - 32 * unit];
  context.font = `${13 * unit}px system-ui, sans-serif`;
  while (text.length > 2 && context.measureText(text).width > room) text = `${text.slice(0, -2)}…`;
  context.fillStyle = "#000b";
  context.fillRect(left, canvas.height - 34 * unit, context.measureText(text).width + 16 * unit, 26 * unit);
  context.fillStyle = "#fff";
  context.fillText(text, left + 8 * unit, canvas.height - 16 * unit);
}

const THUMB = 16; // pixels of the page across which a slider's thumb is
const GRIP = 14; // within which the line itself is taken hold of

function onLine(event) {
  if (!state.result || state.view !== "split" || state.flip) return false;
  const box = canvas.getBoundingClientRect();
  return Math.abs(event.clientX - box.left - (line().x * box.width) / canvas.width) < GRIP;
}

function dragLine(event) {
  const box = canvas.getBoundingClientRect();
  const { from, wide } = line();
  const part = ((event.clientX - box.left) * (canvas.width / box.width) - from) / wide;
  $("split").value = String(Math.round(1000 * clamp(part, 0, 1)));
  update({ split: clamp(part, 0, 1) });
}

function split(original, result) {
  const { from, wide, x } = line();
  const ratio = canvas.clientWidth / canvas.width;
  Object.assign($("split").style, { left: `${from * ratio - THUMB / 2}px`, width: `${wide * ratio + THUMB}px` });
  blit(result);
  context.save();
  context.beginPath();
  context.rect(0, 0, x, canvas.height);
  context.clip();
  blit(original);
  context.restore();
  context.fillStyle = "#fff";
  context.fillRect(x - 1, 0, 2, canvas.height);
}

function difference(original, result) {
  const { width, height } = original;
  const scratch = new OffscreenCanvas(width, height);
  const painter = scratch.getContext("2d", { willReadFrequently: true });
  painter.drawImage(original, 0, 0);
  painter.globalCompositeOperation = "difference";
  painter.drawImage(result, 0, 0, width, height);
  painter.globalCompositeOperation = "lighter"; // four times, to be seen
  painter.drawImage(scratch, 0, 0);
  painter.drawImage(scratch, 0, 0);
  blit(scratch);
}

function drawPrompts(n) {
  const unit = Math.max(1, canvas.width / canvas.clientWidth);
  const { s, left, top } = place();
  for (const one of state.project.objects) {
    if (one.hidden) continue;
    const pending = state.pending.filter(({ object }) => object === one.id);
    for (const prompt of [...one.prompts, ...pending].filter(({ frame }) => frame === n)) {
      if (prompt.kind === "click") {
        context.beginPath();
        context.arc(left + (prompt.x + 0.5) * s, top + (prompt.y + 0.5) * s, 5 * unit, 0, 7);
        context.fillStyle = prompt.positive ? "#28dc3c" : "#285aff";
        context.strokeStyle = "#fff";
        context.lineWidth = 2 * unit;
        context.fill();
        context.stroke();
      } else if (prompt.kind === "box") {
        context.strokeStyle = one.colour;
        context.lineWidth = 2 * unit;
        context.strokeRect(left + prompt.x0 * s, top + prompt.y0 * s, (prompt.x1 - prompt.x0 + 1) * s, (prompt.y1 - prompt.y0 + 1) * s);
      } else if (prompt.kind === "polygon") {
        context.strokeStyle = prompt.positive ? one.colour : "#fff";
        context.lineWidth = 2 * unit;
        context.setLineDash(prompt.positive ? [] : [5 * unit, 4 * unit]);
        polygon.outline(context, prompt.points.map(([x, y]) => [left + (x + 0.5) * s, top + (y + 0.5) * s]), true);
        context.setLineDash([]);
      }
    }
  }
  if (state.area) {
    const [x0, y0, x1, y1] = state.area;
    for (const [colour, offset] of [["#000", 0], ["#fff", 6]]) {
      context.strokeStyle = colour;
      context.lineWidth = 1.5 * unit;
      context.lineDashOffset = offset * unit;
      context.setLineDash([6 * unit, 6 * unit]);
      context.strokeRect(left + x0 * s, top + y0 * s, (x1 - x0 + 1) * s, (y1 - y0 + 1) * s);
    }
    context.setLineDash([]);
    context.lineDashOffset = 0;
  }
}

function drawGesture() {
  const unit = Math.max(1, canvas.width / canvas.clientWidth);
  const { s, left, top } = place();
  const at = ({ x, y }) => [left + (x + 0.5) * s, top + (y + 0.5) * s];
  context.lineWidth = 1.5 * unit;
  polygon.draw(context, at, point.on ? point : hover, unit);
  if (gesture?.kind === "box") {
    const [x0, y0] = at(gesture.from);
    const [x1, y1] = at(gesture.to);
    context.strokeStyle = "#fff";
    context.setLineDash([6 * unit, 4 * unit]);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
  } else if (gesture?.kind === "stroke") {
    context.strokeStyle = gesture.positive ? "#28dc3c99" : "#285aff99";
    context.lineWidth = 2 * state.radius * s;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    gesture.points.forEach((one, i) => (i ? context.lineTo(...at(one)) : context.moveTo(...at(one))));
    if (gesture.points.length === 1) context.lineTo(...at(gesture.points[0]));
    context.stroke();
  } else if (hover && (state.tool === "brush" || state.tool === "eraser")) {
    context.strokeStyle = "#fff";
    context.beginPath();
    context.arc(...at(hover), state.radius * s, 0, 7);
    context.stroke();
  }
  if (point.on) {
    const [x, y] = at(point);
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * unit;
      context.beginPath();
      context.moveTo(x - 14 * unit, y);
      context.lineTo(x + 14 * unit, y);
      context.moveTo(x, y - 14 * unit);
      context.lineTo(x, y + 14 * unit);
      context.stroke();
    }
  }
}

// --- gestures -----------------------------------------------------------------------------------------------

function down(event) {
  if (!state.project) return;
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (pointers.size === 2) {
    gesture = { kind: "pinch" };
    return;
  }
  const at = toVideo(event.clientX, event.clientY);
  const away = (event.button === 2 || event.altKey) !== state.away;
  if (event.button === 0 && onLine(event)) {
    gesture = { kind: "split" };
  } else if (event.button === 1 || state.tool === "pan" || state.result) {
    gesture = { kind: "pan", last: { x: event.clientX, y: event.clientY } };
  } else if (state.tool === "click" || state.tool === "polygon") {
    gesture = { kind: state.tool, at, positive: !away, start: { x: event.clientX, y: event.clientY } };
  } else if (state.tool === "box" || state.tool === "area") {
    gesture = { kind: "box", from: clamped(at), to: clamped(at) };
  } else {
    gesture = { kind: "stroke", positive: (state.tool === "brush") !== away, points: [at] };
  }
  update();
}

function move(event) {
  if (!state.project) return;
  const at = toVideo(event.clientX, event.clientY);
  hover = at;
  canvas.style.cursor = onLine(event) ? "ew-resize" : CURSORS[state.result ? "pan" : state.tool] ?? "crosshair";
  const before = pointers.get(event.pointerId);
  if (before && gesture?.kind === "pinch") return pinch(event, before);
  if (before) pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (gesture?.kind === "split") dragLine(event);
  else if (gesture?.kind === "pan") {
    panBy(event.clientX - gesture.last.x, event.clientY - gesture.last.y);
    gesture.last = { x: event.clientX, y: event.clientY };
  } else if (gesture?.kind === "box") gesture.to = clamped(at);
  else if (gesture?.kind === "stroke") gesture.points.push(at);
  else if ((gesture?.kind === "click" || gesture?.kind === "polygon") && Math.hypot(event.clientX - gesture.start.x, event.clientY - gesture.start.y) > 6) {
    gesture = { kind: "pan", last: { x: event.clientX, y: event.clientY } }; // dragged: the picture moves
  }
  if (gesture || state.tool === "brush" || state.tool === "eraser" || polygon.drawing()) update();
}

function up(event) {
  pointers.delete(event.pointerId);
  const ended = gesture;
  gesture = pointers.size ? gesture : null;
  if (ended?.kind === "click") {
    if (inside(ended.at)) onPrompt({ kind: "click", ...clamped(ended.at), positive: ended.positive });
    else note("That is beside the picture.");
  } else if (ended?.kind === "polygon") polygon.add(clamped(ended.at), ended.positive);
  else if (ended?.kind === "box") boxed(ended.from, ended.to);
  else if (ended?.kind === "stroke") {
    onPrompt({
      kind: "brush",
      positive: ended.positive,
      strokes: [{ radius: state.radius, points: ended.points.map(({ x, y }) => [x, y]) }],
    });
  }
  update();
}

// Two corners of a box: of a thing, or of the area in which is looked for things.
function boxed(a, b) {
  const [x0, x1] = [a.x, b.x].sort((one, other) => one - other);
  const [y0, y1] = [a.y, b.y].sort((one, other) => one - other);
  if (x1 - x0 < 2 || y1 - y0 < 2) note("Drag from one corner to the other.");
  else if (state.tool === "area") {
    update({ area: [x0, y0, x1, y1].map(Math.round), tool: "click" });
    note("Captions, faces and words are looked for in this box alone.");
  } else onPrompt({ kind: "box", x0, y0, x1, y1 });
}

function pinch(event, before) {
  const [other] = [...pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  const now = { x: event.clientX, y: event.clientY };
  const span = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
  zoomAt((now.x + other.x) / 2, (now.y + other.y) / 2, span(now) / span(before));
  panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
  pointers.set(event.pointerId, now);
}

function wheel(event) {
  event.preventDefault();
  if (!state.project) return;
  zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)));
}

function pointWithKeys(event) {
  if (!state.project || state.result) return;
  const step = event.shiftKey ? 20 : 4;
  if (polygon.drawing() && polygonKey(event.key)) {
    event.preventDefault();
    event.stopPropagation();
    update();
    return;
  }
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (!point.on) {
    if (event.key !== "Enter") return;
    Object.assign(point, { on: true, x: state.project.width / 2, y: state.project.height / 2 });
    note("Arrow keys move the cross; Enter uses the tool there, Backspace takes away, Esc ends.");
  } else if (moves[event.key]) {
    Object.assign(point, clamped({ x: point.x + moves[event.key][0], y: point.y + moves[event.key][1] }));
  } else if (event.key === "Enter" || event.key === "Backspace") {
    useTool((event.key === "Enter") !== state.away);
  } else if (event.key === "Escape") {
    Object.assign(point, { on: false, corner: null });
    note();
  } else return;
  event.preventDefault();
  event.stopPropagation();
  update();
}

function polygonKey(key) {
  if (key === "Escape") polygon.drop();
  else if (key === "Backspace") polygon.back();
  else if (key === "Enter" && !point.on) polygon.close();
  else return false;
  return true;
}

// The chosen tool, where the keyboard's cross is.
function useTool(positive) {
  const { x, y } = point;
  if (state.tool === "brush" || state.tool === "eraser") {
    onPrompt({ kind: "brush", positive: (state.tool === "brush") === positive, strokes: [{ radius: state.radius, points: [[x, y]] }] });
  } else if (state.tool === "polygon") polygon.add({ x, y }, positive);
  else if ((state.tool === "box" && positive) || state.tool === "area") {
    if (!point.corner) {
      point.corner = { x, y };
      note("Now the opposite corner.");
      return;
    }
    boxed(point.corner, { x, y });
    point.corner = null;
  } else onPrompt({ kind: "click", x, y, positive });
}

