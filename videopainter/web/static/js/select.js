// The panel "Select": objects, margin, tracking, frames to look at, masks in and out.

import { api } from "./api.js";
import { go } from "./timeline.js";
import { $, element, fill, icon, note, openJobs, state, toast, update } from "./state.js";

const COLOURS = ["#ff3b30", "#0a84ff", "#30d158", "#ff9f0a", "#bf5af2", "#64d2ff", "#ffd60a", "#ff375f"];
export const USUAL_MARGIN = 24; // dilate_size of the engines that have no other
const EXTENTS = ["part", "object", "group"];
const READ_AS = { part: "a part of it", object: "the whole thing", group: "a group of things" };
const MOST_MARKS = 12; // of an object in the list; all are on the timeline
const SHORT = ["read", "select", "shadow"]; // stages of which no time is told
const STAGES = { track: "frame", find: "frame", inpaint: "inpainting", write: "writing", read: "reading", select: "selecting", shadow: "looking for the shadow" };
const MASK_FILES = [["masks.npz", "NumPy"], ["masks.zip", "PNG"], ["labels.zip", "DAVIS palette"], ["masks.mp4", "video"]];
let sending = Promise.resolve(); // edits reach the server in the order in which they were made
let dragged = false; // the margin is being chosen; the server does not know it yet
let spans = []; // in and out points that the server does not know yet: {id, span}
let found = []; // what the last edit's previews came to

export function setUp() {
  $("add").onclick = () => {
    update({ object: null, fresh: true });
    note("Click on the next thing.");
  };
  $("masks-up").onclick = () => $("masks-file").click();
  $("masks-file").onchange = async () => {
    const [file] = $("masks-file").files;
    $("masks-file").value = "";
    const how = { invert: $("masks-invert").checked };
    if ($("masks-label").value !== "") how.mask_id = $("masks-label").value;
    if (!file) return;
    note(`Reading ${file.name}…`);
    const answer = await attempt(() => api.masks(state.project.id, file, how));
    note();
    if (!answer) return;
    take(answer);
    update({ object: answer.objects.at(-1).id, fresh: false });
  };
  $("margin").oninput = () => {
    dragged = true;
    update({ margin: Number($("margin").value) });
  };
  $("margin").onchange = () =>
    attempt(async () => {
      const answer = await api.change(state.project.id, { dilate_size: state.margin });
      dragged = false;
      take(answer);
    });
  $("effects").onchange = () =>
    attempt(async () => {
      const effects = $("effects").checked ? "auto" : "off";
      take(await api.change(state.project.id, { effects }));
      // What was tracked before is not tracked again; only the shadow is looked for.
      if (effects === "auto" && state.project.timeline.length) await track();
    });
  $("track").onclick = track;
  $("words-find").onclick = () => ($("words").value.trim() ? look($("words").value.trim()) : $("words").focus());
  $("area").onclick = () => {
    if (state.area || state.tool === "area") return update({ area: null, tool: "click" });
    note("Drag a box; only in it is looked.");
    update({ tool: "area" });
  };
  $("segmenter").onchange = fillSizes;
  $("words").onkeydown = (event) => event.key === "Enter" && $("words-find").click();
  $("masks-down").append(
    ...MASK_FILES.map(([name, text]) => element("button", { onclick: () => download(name) }, text)),
  );
}

export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(error.message);
    return undefined;
  }
}

export function take(project) {
  if (!state.project || project.id !== state.project.id || project.version < state.project.version) return;
  const margin = dragged ? state.margin : (project.dilate_size ?? USUAL_MARGIN);
  const asked = spans.filter(({ id }) => id === project.id).map(({ span }) => span);
  update({ project: Object.assign({}, state.project, project, ...asked), margin });
}

// In and out points count at once, for the key that is pressed next.
export async function changeSpan(span) {
  const one = { id: state.project.id, span };
  spans.push(one);
  update({ project: { ...state.project, ...span } });
  const answer = (await attempt(() => api.change(one.id, span))) ?? (await api.project(one.id).catch(() => null));
  spans = spans.filter((other) => other !== one);
  if (answer) take(answer);
}

// --- objects and prompts ------------------------------------------------------------------------------------

export function addPrompt(prompt) {
  if (state.result) return;
  const frame = state.frame; // where it was made, even if its turn comes later
  const pending = { frame, object: state.fresh ? null : state.object, ...prompt };
  update({ pending: [...state.pending, pending] });
  edit((objects) => {
    let number = state.object;
    if (state.fresh || !objects.some(({ id }) => id === number)) {
      if (prompt.positive === false) throw new Error("Click on the thing first; what does not belong to it comes after.");
      number = fresh(objects);
    }
    state.object = number;
    state.fresh = false;
    const one = objects.find(({ id }) => id === number);
    one.prompts.push({ frame, positive: true, ...prompt });
  }).finally(() => update({ pending: state.pending.filter((one) => one !== pending) }));
}

function fresh(objects) {
  const number = state.project.next_object;
  if (!number) throw new Error("There are 255 objects already.");
  objects.push({ id: number, name: `Object ${number}`, colour: COLOURS[(number - 1) % COLOURS.length], hidden: false, extent: null, prompts: [] });
  return number;
}

function edit(change, looks = true) {
  const { project } = state;
  sending = sending.then(() =>
    attempt(async () => {
      if (state.project?.id !== project.id) return;
      update({ busy: state.busy + 1 });
      if (looks) note("Looking…");
      try {
        said(await changed(project.id, change));
      } finally {
        update({ busy: state.busy - 1 });
      }
    }).then(() => !state.busy && $("note").textContent === "Looking…" && note()),
  );
  return sending;
}

// The objects with that change; where they have changed by other hands meanwhile, those as they are now.
async function changed(id, change) {
  for (let attempts = 3; ; attempts--) {
    const objects = structuredClone(state.project.objects);
    change(objects);
    try {
      return await api.objects(id, objects, state.project.mark);
    } catch (error) {
      if (error.status !== 409 || !attempts) throw error;
      take(await api.project(id));
    }
  }
}

function find(objects, id) {
  const there = objects.find((object) => object.id === id);
  if (!there) throw new Error("That object is not there any more.");
  return there;
}

function said(answer) {
  found = answer.found;
  take(answer);
  note(answer.found.map(({ message }) => message).find(Boolean) || "");
}

export function history(step) {
  if (!state.project) return;
  sending = sending.then(() => attempt(async () => said(await api[step](state.project.id))));
}

// The next reading of a click: a part, the thing, a group of things.
export function nextExtent() {
  const chosen = state.project?.objects.find(({ id }) => id === state.object);
  if (!chosen) return note("Choose an object first.");
  const here = found.find(({ object, frame }) => object === chosen.id && frame === state.frame);
  const there = EXTENTS.filter((extent) => !here || here.candidates.some((candidate) => candidate.extent === extent));
  const choice = there.length > 1 ? there : EXTENTS;
  const extent = choice[(choice.indexOf(chosen.extent ?? "object") + 1) % choice.length];
  edit((objects) => (find(objects, chosen.id).extent = extent)).then(() => note(`Read as ${READ_AS[extent]}.`));
}

// --- tracking -----------------------------------------------------------------------------------------------

export async function track() {
  if (!state.project?.objects.some(({ prompts }) => prompts.length)) {
    toast("Click on a thing first.");
    return;
  }
  await sending;
  await attempt(() => api.job(state.project.id, { kind: "track", ...following() }));
}

const following = () => ({ segmenter: $("segmenter").value || "auto", size: $("size").value || "auto" });

// Everything of that name, or that these words say.
function look(find) {
  const every = Math.max(1, Math.round(Number($("every").value)) || 30);
  return attempt(() => api.job(state.project.id, { kind: "find", find, every, area: state.area, ...following() }));
}

let able = []; // segmenters that can run here

export async function fillSegmenters() {
  able = (await api.segmenters()).filter(({ available }) => available);
  $("segmenter-field").hidden = able.length < 2;
  $("segmenter").replaceChildren(
    element("option", { value: "auto" }, "the best that runs here"),
    ...able.map(({ name, needs }) => element("option", { value: name }, `${name} (needs ${needs})`)),
  );
  fillSizes();
}

function fillSizes() {
  const sizes = able.find(({ name }) => name === $("segmenter").value)?.sizes ?? [];
  $("size-field").hidden = !sizes.length;
  $("size").replaceChildren(element("option", { value: "auto" }, "what suits this machine"), ...sizes.map((size) => element("option", { value: size }, size)));
}

// What can be found by its name, and why it cannot here.
export async function fillFinders() {
  const all = await api.finders();
  $("finders").replaceChildren(
    ...all.filter(({ words }) => !words).map(({ name, what, available, reason }) =>
      element("button", { disabled: !available, title: available ? `Finds ${what} between the in and the out point` : reason, onclick: () => look(name) }, name[0].toUpperCase() + name.slice(1)),
    ),
  );
  const worded = all.find(({ words }) => words);
  $("words-field").hidden = !worded;
  $("every-field").hidden = !worded?.available;
  $("words").disabled = $("words-find").disabled = !worded?.available;
  const absent = all.filter(({ available }) => !available);
  $("finders-absent").textContent = [...new Set(absent.map(({ reason }) => reason))].map((reason) => `${absent.filter((one) => one.reason === reason).map(({ name }) => name).join(", ")}: ${reason}`).join("; ");
}

// What a click on the frame that is looked at will need is read ahead.
let prepared = "";
let preparing;
export function prepare() {
  const { project, frame } = state;
  const key = `${project.id} ${frame}`;
  if (key === prepared || state.playing || state.result || $("canvas").getAttribute("aria-busy") !== "false") return;
  prepared = key;
  clearTimeout(preparing);
  preparing = setTimeout(() => api.prepare(project.id, frame).catch(() => {}), 100);
}

// The next frame of those that want a look.
export function nextMark() {
  const shown = new Set(state.project.objects.filter(({ hidden }) => !hidden).map(({ id }) => id));
  const all = state.project.timeline.filter(({ object }) => shown.has(object)).flatMap(({ object, marks: list }) => list.map((mark) => ({ object, ...mark })));
  all.sort((a, b) => a.frame - b.frame);
  const next = all.find(({ frame }) => frame > state.frame) ?? all[0];
  if (!next) return note("No frame is marked.");
  update({ object: next.object, fresh: false });
  go(next.frame);
  note(`${next.why[0].toUpperCase()}${next.why.slice(1)} from here on.`);
}

async function download(name) {
  const address = `/api/projects/${state.project.id}/masks/${name}`;
  const answer = await attempt(() => fetch(address));
  if (!answer) return;
  if (!answer.ok) {
    toast((await answer.json()).detail);
    return;
  }
  const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// --- drawing ------------------------------------------------------------------------------------------------

export function draw() {
  const { project } = state;
  if (!project) return;
  if (document.activeElement !== $("effects")) $("effects").checked = project.effects !== "off";
  $("margin").value = String(state.margin);
  $("margin-text").textContent = `${Math.round((state.margin / 2) * (project.height / 480))} px on each side`;
  const working = openJobs(project).filter(({ kind }) => kind === "track" || kind === "find");
  $("track").disabled = working.some(({ kind }) => kind === "track") || !project.objects.some(({ prompts }) => prompts.length);
  $("area").textContent = state.area ? "Anywhere again" : "Only in a box…";
  $("area").setAttribute("aria-pressed", String(Boolean(state.area) || state.tool === "area"));
  $("what").textContent = !project.objects.length
    ? `Click on the thing that should go. ${state.away ? "A click takes away now." : "A right click takes away."}`
    : state.fresh ? "Click on the next thing." : "Click more of it to add; right click, or Take away, for what does not belong to it.";
  fill($("objects"), project.objects.map((one) => [JSON.stringify([project.id, one.id, one.name, one.colour, one.hidden, one.extent, chosen(one)]), () => card(one)]));
  fill($("marks"), marks(project));
  fill($("tracking"), working.map((job) => atWork(job, job.kind === "find" ? `Looking for ${job.settings.find}` : "Tracking")));
  prepare();
}

const chosen = (one) => one.id === state.object && !state.fresh;

function card(one) {
  const change = (values) => edit((objects) => Object.assign(find(objects, one.id), values), false);
  return element(
    "li",
    { class: chosen(one) ? "chosen" : "" },
    element("button", {
      class: "pick",
      style: { background: one.colour },
      title: "Prompts go to this one",
      "aria-label": `Choose ${one.name}`,
      "aria-pressed": String(chosen(one)),
      "data-keep": `pick ${one.id}`,
      onclick: () => update({ object: one.id, fresh: false }),
    }),
    element("input", { value: one.name, maxLength: 100, "aria-label": "Name", "data-keep": `name ${one.id}`, onchange: (event) => change({ name: event.target.value || `Object ${one.id}` }) }),
    element("button", { class: "small", "aria-pressed": String(!one.hidden), "aria-label": `${one.hidden ? "Show" : "Hide"} ${one.name}`, title: one.hidden ? "Show; it will be inpainted" : "Hide; it stays in the video", "data-keep": `hide ${one.id}`, onclick: () => change({ hidden: !one.hidden }) }, icon(one.hidden ? "hidden" : "seen")),
    element("button", { class: "small", title: "Part, whole thing, group (N)", "aria-label": `Next reading of ${one.name}`, "data-keep": `next ${one.id}`, onclick: () => { update({ object: one.id, fresh: false }); nextExtent(); } }, one.extent ?? "auto"),
    element("button", { class: "small", "aria-label": `Delete ${one.name}`, title: "Delete", onclick: () => edit((objects) => objects.splice(objects.indexOf(find(objects, one.id)), 1), false) }, icon("close")),
  );
}

function marks(project) {
  const names = new Map(project.objects.map(({ id, name, hidden }) => [id, hidden ? null : name]));
  return project.timeline.flatMap(({ object, marks: list }) => {
    const name = names.get(object);
    if (!name) return [];
    const items = list.slice(0, MOST_MARKS).map(({ frame, why }) => [
      JSON.stringify([project.id, object, name, frame, why]),
      () => element("li", {}, element("button", { class: "small", onclick: () => { update({ object, fresh: false }); go(frame); } }, `${name}: ${why} from frame ${frame} on`)),
    ]);
    if (list.length > MOST_MARKS) items.push([`${object} more ${list.length}`, () => element("li", { class: "hint" }, `and ${list.length - MOST_MARKS} more; M goes from one to the next`)]);
    return items;
  });
}

// A job that waits or is at work, for `fill`.
export function atWork(job, text, tag = "div") {
  const make = () =>
    element(
      tag,
      { class: "job" },
      element("p", {}, element("span"), " ", element("small")),
      element("progress", { max: 1, "aria-label": text }),
      element("button", { class: "small", "aria-label": `Cancel: ${text}`, onclick: () => attempt(() => api.cancel(job.id)) }, "Cancel"),
    );
  const refresh = (node) => {
    node.querySelector("span").textContent = job.state === "queued" ? `${text}: waiting for its turn` : text;
    node.querySelector("small").textContent = left(job);
    if (job.state === "running" && !job.total) node.querySelector("progress").removeAttribute("value");
    else node.querySelector("progress").value = job.total ? job.done / job.total : 0;
  };
  return [`${job.id} ${text}`, make, refresh];
}

const began = new Map(); // job and stage -> when it was seen first, and how far it was then

// How far a job is, and how long its stage takes yet, told from what it did while it was watched.
function left(job) {
  if (job.state !== "running" || !job.total) return "";
  if (SHORT.includes(job.stage)) return STAGES[job.stage];
  const now = performance.now() / 1000;
  const key = `${job.id} ${job.stage} ${job.started}`;
  if (!began.has(key)) began.set(key, { at: now, done: job.done });
  const { at, done } = began.get(key);
  if (now - at < 1 || job.done === done) return `${STAGES[job.stage] ?? job.stage} ${job.done} of ${job.total}`;
  const seconds = Math.max(1, Math.round(((now - at) * (job.total - job.done)) / (job.done - done)));
  const time = seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  return `${STAGES[job.stage] ?? job.stage} ${job.done} of ${job.total}, about ${time} left`;
}
