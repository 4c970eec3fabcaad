// What the page knows: the project as the server tells it, and what is only here (frame, tool, view, zoom).

export const state = {
  project: null, // as GET /api/projects/{id}
  engines: [],
  frame: 0,
  tool: "click",
  object: null, // number of the object that prompts go to
  fresh: false, // the next click begins another object
  away: false, // clicks and brushes take away
  area: null, // the box in which is looked for captions, faces and words: [x0, y0, x1, y1]
  radius: 18, // of the brush, in pixels of the video
  margin: 24, // dilate_size, in a picture of 480 lines
  playing: false,
  result: null, // the job whose result is looked at
  view: "split",
  other: null, // the result beside it
  split: 0.5,
  flip: false,
  pending: [], // prompts that the server has not answered yet
  busy: 0, // requests on the way that change masks
};

const listeners = new Set();
let planned = false;

export function listen(listener) {
  listeners.add(listener);
}

// Change some of it; everything is drawn once, before the next picture.
export function update(changes = {}) {
  Object.assign(state, changes);
  if (planned) return;
  planned = true;
  $("canvas").setAttribute("aria-busy", "true"); // until it is drawn
  requestAnimationFrame(() => {
    planned = false;
    for (const listener of listeners) listener(state);
  });
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `icons.svg#${name}`);
  svg.append(use);
  return svg;
}

export const $ = (id) => document.getElementById(id);

// An element of the page: element("li", {class: "x", onclick: f}, child, "text").
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.className = properties.class ?? node.className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Give `parent` one child for each [key, make, refresh]: the child of a key that was there stays the same node, so
// that a press on it counts and the keyboard stays where it is; `refresh` is called with it.
const children = new WeakMap();
export function fill(parent, items) {
  const before = children.get(parent) ?? new Map();
  const now = new Map(items.map(([key, make]) => [key, before.get(key) ?? make()]));
  const focus = document.activeElement?.dataset?.keep;
  children.set(parent, now);
  for (const [key, node] of before) if (!now.has(key)) node.remove();
  let at = parent.firstChild;
  for (const node of now.values()) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const [key, , refresh] of items) refresh?.(now.get(key));
  if (focus && document.activeElement?.dataset?.keep !== focus) parent.querySelector(`[data-keep="${focus}"]`)?.focus();
}

let hiding;
export function toast(sentence) {
  if (!sentence) return;
  $("toast").textContent = sentence;
  $("toast").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(hideToast, 8000);
}

export function hideToast() {
  $("toast").hidden = true;
}

export function note(sentence = "") {
  $("note").textContent = sentence;
}

export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

export const timeOf = (project, n) => (project.times ? project.times[n] : n / project.fps);

export function endOf(project, n) {
  return n + 1 < project.frames ? timeOf(project, n + 1) : timeOf(project, n) + 1 / project.fps;
}

export function frameAt(project, seconds) {
  if (!project.times) return Math.floor(seconds * project.fps + 1e-6);
  let low = 0;
  let high = project.times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (project.times[middle] <= seconds + 1e-6) low = middle;
    else high = middle - 1;
  }
  return low;
}

export const resultJobs = (project) => project.jobs.filter((job) => job.kind === "inpaint" && job.state === "done");
export const openJobs = (project) => project.jobs.filter((job) => job.state === "queued" || job.state === "running");

// What a result is called: by the settings that it was made with.
export const resultTitle = (job) => {
  const { engine: name, prompt, options: chosen = {}, seed, spine: { dilate_size: margin, effects } = {} } = job.settings;
  const { export: files = [] } = job.settings;
  const extra = Object.entries(chosen).map(([key, value]) => `${key} ${value}`);
  if (seed !== 42) extra.push(`seed ${seed}`);
  if (files.length) extra.push(`with ${files.join(" and ")}`);
  if (effects === "off") extra.push("without the shadow");
  if (margin !== undefined && margin !== null) extra.push(`margin ${margin / 2}`);
  const reach = job.settings.frame !== undefined ? `frame ${job.settings.frame}` : job.settings.seconds ? `${job.settings.seconds} s` : "all";
  return [job.facts.engine ?? name, reach, prompt && `“${prompt}”`, ...extra].filter(Boolean).join(", ");
};
