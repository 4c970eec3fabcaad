// The panel "Select": objects, margin, tracking, frames to look at, masks in and out.

import { api } from "./api.js";
import { go } from "./timeline.js";
import { $, element, icon, note, openJobs, state, toast, update } from "./state.js";

const COLOURS = ["#ff3b30", "#0a84ff", "#30d158", "#ff9f0a", "#bf5af2", "#64d2ff", "#ffd60a", "#ff375f"];
const EXTENTS = ["part", "object", "group"];
const MASK_FILES = [["masks.npz", "NumPy"], ["masks.zip", "PNG"], ["labels.zip", "DAVIS palette"], ["masks.mp4", "video"]];
let sending = Promise.resolve(); // edits reach the server in the order in which they were made
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
    if (file) await attempt(async () => take(await api.masks(state.project.id, file)));
  };
  $("margin").oninput = () => update({ margin: Number($("margin").value) });
  $("margin").onchange = () => attempt(async () => take(await api.change(state.project.id, { dilate_size: state.margin })));
  $("effects").onchange = () =>
    attempt(async () => {
      const effects = $("effects").checked ? "auto" : "off";
      take(await api.change(state.project.id, { effects }));
      // What was tracked before is not tracked again; only the shadow is looked for.
      if (effects === "auto" && state.project.timeline.length) await track();
    });
  $("track").onclick = track;
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
  if (state.project && project.id === state.project.id) update({ project: { ...state.project, ...project } });
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

function edit(change) {
  const { project } = state;
  sending = sending.then(() =>
    attempt(async () => {
      if (state.project?.id !== project.id) return;
      const objects = structuredClone(state.project.objects);
      change(objects);
      update({ busy: state.busy + 1 });
      note("Looking…");
      try {
        said(await api.objects(project.id, objects));
      } finally {
        update({ busy: state.busy - 1 });
      }
    }).then(() => !state.busy && $("note").textContent === "Looking…" && note()),
  );
  return sending;
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
  const one = state.project?.objects.find(({ id }) => id === state.object);
  if (!one) return;
  const here = found.find(({ object, frame }) => object === one.id && frame === state.frame);
  const there = EXTENTS.filter((extent) => !here || here.candidates.some((candidate) => candidate.extent === extent));
  const choice = there.length > 1 ? there : EXTENTS;
  const extent = choice[(choice.indexOf(one.extent ?? "object") + 1) % choice.length];
  edit((objects) => (objects.find(({ id }) => id === one.id).extent = extent)).then(() => note(`Read as ${extent}.`));
}

// --- tracking -----------------------------------------------------------------------------------------------

export async function track() {
  if (!state.project?.objects.some(({ prompts }) => prompts.length)) {
    toast("Click on a thing first.");
    return;
  }
  await sending;
  await attempt(() => api.job(state.project.id, { kind: "track", segmenter: $("segmenter").value || "auto" }));
}

export async function fillSegmenters() {
  const able = (await api.segmenters()).filter(({ available }) => available);
  $("segmenter-field").hidden = able.length < 2;
  $("segmenter").replaceChildren(
    element("option", { value: "auto" }, "the best that runs here"),
    ...able.map(({ name, needs }) => element("option", { value: name }, `${name} (needs ${needs})`)),
  );
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

let drawn = "";

export function draw() {
  const { project } = state;
  if (!project) return;
  if (document.activeElement !== $("effects")) $("effects").checked = project.effects !== "off";
  $("margin").value = String(state.margin);
  $("margin-text").textContent = `${Math.round((state.margin / 2) * (project.height / 480))} px on each side`;
  const tracking = openJobs(project).find(({ kind }) => kind === "track");
  $("track").disabled = Boolean(tracking) || !project.objects.some(({ prompts }) => prompts.length);
  const key = JSON.stringify([project.id, project.objects, state.object, state.fresh, project.timeline.map(({ object, marks }) => [object, marks]), tracking]);
  if (key === drawn) return;
  drawn = key;
  const focus = document.activeElement?.dataset?.keep;
  $("objects").replaceChildren(...project.objects.map(card));
  if (focus) document.querySelector(`[data-keep="${focus}"]`)?.focus();
  $("what").textContent = project.objects.length
    ? state.fresh ? "Click on the next thing." : "Click more of it to add, right click what does not belong to it."
    : "Click on the thing that should go. Right click takes away.";
  $("marks").replaceChildren(...marks(project));
  $("tracking").replaceChildren(...(tracking ? [progress(tracking)] : []));
}

function card(one) {
  const chosen = one.id === state.object && !state.fresh;
  const change = (values) => edit((objects) => Object.assign(objects.find(({ id }) => id === one.id), values));
  return element(
    "li",
    { class: chosen ? "chosen" : "" },
    element("button", {
      class: "pick",
      style: { background: one.colour },
      title: "Prompts go to this one",
      "aria-label": `Choose ${one.name}`,
      "aria-pressed": String(chosen),
      "data-keep": `pick ${one.id}`,
      onclick: () => update({ object: one.id, fresh: false }),
    }),
    element("input", { value: one.name, maxLength: 100, "aria-label": "Name", "data-keep": `name ${one.id}`, onchange: (event) => change({ name: event.target.value || `Object ${one.id}` }) }),
    element("button", { class: "small", "aria-pressed": String(!one.hidden), "aria-label": `${one.hidden ? "Show" : "Hide"} ${one.name}`, title: one.hidden ? "Show; it will be inpainted" : "Hide; it stays in the video", "data-keep": `hide ${one.id}`, onclick: () => change({ hidden: !one.hidden }) }, icon(one.hidden ? "hidden" : "seen")),
    element("button", { class: "small", title: "Part, whole thing, group (N)", "aria-label": `Next reading of ${one.name}`, "data-keep": `next ${one.id}`, onclick: () => { update({ object: one.id, fresh: false }); nextExtent(); } }, one.extent ?? "auto"),
    element("button", { class: "small", "aria-label": `Delete ${one.name}`, title: "Delete", onclick: () => edit((objects) => objects.splice(objects.findIndex(({ id }) => id === one.id), 1)) }, icon("close")),
  );
}

function marks(project) {
  const names = new Map(project.objects.map(({ id, name, hidden }) => [id, hidden ? null : name]));
  return project.timeline.flatMap(({ object, marks: list }) =>
    names.get(object)
      ? list.slice(0, 12).map(({ frame, why }) => element("li", {}, element("button", { class: "small", onclick: () => { update({ object, fresh: false }); go(frame); } }, `${names.get(object)}: ${why} from frame ${frame} on`)))
      : [],
  );
}

export function progress(job, text = "Tracking") {
  return element(
    "div",
    { class: "job" },
    element("p", {}, `${job.state === "queued" ? "Waiting" : text} `, element("small", {}, left(job))),
    element("progress", { max: 1, value: job.total ? job.done / job.total : 0, "aria-label": text }),
    element("button", { class: "small", onclick: () => attempt(() => api.cancel(job.id)) }, "Cancel"),
  );
}

function left(job) {
  if (!job.total || !job.done || !job.started) return "";
  const spent = Date.now() / 1000 - job.started;
  const seconds = Math.max(1, Math.round((spent * (job.total - job.done)) / job.done));
  const time = seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  return `${job.stage} ${job.done} of ${job.total}, about ${time} left`;
}
