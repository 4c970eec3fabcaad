// The timeline: thumbnails, where the masks are, which frames want a look, in and out points, playing.

import { originalAt, resultAt } from "./viewer.js";
import { api, thumbUrl } from "./api.js";
import { picture } from "./pictures.js";
import { $, clock, element, endOf, frameAt, note, resultJobs, state, timeOf, update } from "./state.js";

// A frame is a piece of the timeline as wide as all others.
const line = $("timeline");
const LASTING = /^(The server|Looking|Reading|Arrow keys|Now the)/;
let shownFor = "";
let plays = 0; // how often it was played: what an earlier time still waits for says nothing any more

export function setUp(changeSpan) {
  line.addEventListener("pointerdown", (event) => {
    line.setPointerCapture(event.pointerId);
    seek(event);
    line.onpointermove = seek;
  });
  line.addEventListener("pointerup", () => (line.onpointermove = null));
  line.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageUp: 10, PageDown: -10 };
    if (steps[event.key]) go(state.frame + steps[event.key] * (event.shiftKey ? 10 : 1));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  $("first").onclick = () => go(state.project.in);
  $("back").onclick = () => go(state.frame - 1);
  $("next").onclick = () => go(state.frame + 1);
  $("play").onclick = toggle;
  // The other point goes along only where it must: what is known of it may be older than a key pressed just before.
  const span = (frame, point, other, beyond) => changeSpan({ [point]: frame, ...(beyond ? { [other]: frame } : {}) });
  $("in").onclick = () => span(state.frame, "in", "out", state.frame > state.project.out);
  $("out").onclick = () => span(state.frame, "out", "in", state.frame < state.project.in);
  $("whole").onclick = () => changeSpan({ in: 0, out: state.project.frames - 1 });
  new ResizeObserver(() => update()).observe(line);
}

function seek(event) {
  const box = line.getBoundingClientRect();
  go(Math.floor(((event.clientX - box.left) / box.width) * state.project.frames));
}

export function go(n) {
  if (!state.project) return;
  pause();
  if (!LASTING.test($("note").textContent)) note(); // it was about where one was before
  update({ frame: Math.min(Math.max(n, 0), state.project.frames - 1) });
}

// --- playing ------------------------------------------------------------------------------------------------

export function toggle() {
  if (state.playing) pause();
  else play();
}

export function pause() {
  if (!state.playing) return;
  $("proxy").pause();
  $("proxy").hidden = true;
  update({ playing: false });
}

function play() {
  const { project } = state;
  const job = state.result && resultJobs(project).find((one) => one.id === state.result);
  const first = () => (job ? job.facts.first : state.project.in);
  const last = () => (job ? job.facts.first + job.facts.count - 1 : state.project.out); // it may be set while it plays
  const mine = ++plays;
  const over = () => mine !== plays || !state.playing || state.project?.id !== project.id;
  const from = state.frame >= last() || state.frame < first() ? first() : state.frame;
  update({ playing: true, frame: from });
  const proxy = $("proxy");
  let smooth = project.proxy && !job;
  // The next time it plays smoothly; until then every frame is fetched.
  if (!smooth && !job) api.proxy(project.id).catch(() => {});
  let began = performance.now() - 1000 * timeOf(project, from);
  if (smooth) {
    proxy.src = `/api/projects/${project.id}/proxy.mp4`;
    proxy.currentTime = timeOf(project, from) - timeOf(project, 0);
    proxy.hidden = false;
    // A browser that does not play it is given frames; a pause breaks it off, too.
    proxy.play().catch(() => {
      if (over()) return;
      smooth = false;
      proxy.hidden = true;
      began = performance.now() - 1000 * timeOf(project, state.frame);
    });
  }
  const step = async () => {
    if (over()) return;
    const seconds = smooth ? proxy.currentTime + timeOf(project, 0) : (performance.now() - began) / 1000;
    const n = Math.max(from, frameAt(project, seconds));
    if (n > last() || seconds >= endOf(project, last()) || (smooth && proxy.ended)) {
      update({ frame: last() });
      pause();
      return;
    }
    if (!smooth) {
      // Every frame is shown when it is there; a slow machine plays slower rather than not at all.
      const address = (i) => (job ? resultAt(job, i) : originalAt(i));
      for (let i = n; i <= Math.min(n + 8, last()); i++) picture(address(i), false).catch(() => {});
      const waited = performance.now();
      await picture(address(n)).catch(() => {});
      began += Math.max(0, performance.now() - waited - 5);
      if (over()) return; // somebody went elsewhere meanwhile
    }
    if (n !== state.frame) update({ frame: n });
    else if (smooth) update();
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

// --- drawing ------------------------------------------------------------------------------------------------

export function draw() {
  const { project } = state;
  if (!project || $("editor").hidden) return;
  const last = Math.max(project.frames - 1, 1);
  $("clock").textContent = `${clock(timeOf(project, state.frame))} · frame ${state.frame} of ${project.frames}`;
  $("play").querySelector("use").setAttribute("href", `icons.svg#${state.playing ? "pause" : "play"}`);
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  line.setAttribute("aria-valuemax", String(last));
  line.setAttribute("aria-valuenow", String(state.frame));
  line.setAttribute("aria-valuetext", `frame ${state.frame}, ${clock(timeOf(project, state.frame))}`);
  const count = Math.max(2, Math.min(Math.round(line.clientWidth / 78), project.frames, 24));
  const key = JSON.stringify([project.id, count, project.version, project.objects.map(({ id }) => id)]);
  if (key !== shownFor) {
    shownFor = key;
    line.replaceChildren(thumbs(project, count), ...project.objects.map((one) => row(project, one)), ...shades(project), element("div", { class: "cursor" }));
  }
  line.querySelector(".cursor").style.left = `calc(${(100 * (state.frame + 0.5)) / project.frames}% - 1px)`;
}

function thumbs(project, count) {
  const old = line.querySelector(".thumbs");
  if (old && old.dataset.key === `${project.id} ${count}`) return old;
  const strip = element("div", { class: "thumbs" });
  strip.dataset.key = `${project.id} ${count}`;
  for (let i = 0; i < count; i++) {
    const n = Math.floor(((i + 0.5) * project.frames) / count);
    strip.append(element("img", { src: thumbUrl(project.id, n), alt: "", loading: "lazy", draggable: false }));
  }
  return strip;
}

function row(project, object) {
  const bar = element("div", { class: "track", title: object.name });
  const found = project.timeline.find((one) => one.object === object.id);
  if (!found) return bar;
  const left = (n) => `${(100 * n) / project.frames}%`;
  for (const [from, to] of found.frames) {
    const width = `${(100 * (to - from + 1)) / project.frames}%`;
    bar.append(element("i", { style: { left: left(from), width, background: object.colour, opacity: object.hidden ? "0.3" : "1" } }));
  }
  for (const { frame, why } of found.marks) {
    bar.append(element("i", { class: "mark", title: `${why} at frame ${frame}`, style: { left: left(frame) } }));
  }
  for (const frame of found.preview) {
    bar.append(element("i", { class: "preview", title: `clicked at frame ${frame}`, style: { left: left(frame) } }));
  }
  return bar;
}

function shades(project) {
  const part = (count) => `${(100 * count) / project.frames}%`;
  const before = element("div", { class: "outside", style: { left: "0", width: part(project.in) } });
  const after = element("div", { class: "outside", style: { right: "0", width: part(project.frames - 1 - project.out) } });
  return [before, after];
}
