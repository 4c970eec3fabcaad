// The panels "Inpaint" and "Results": engines and their options, the queue, what came of it.

import { api } from "./api.js";
import { attempt, atWork } from "./select.js";
import { go } from "./timeline.js";
import { $, element, fill, openJobs, resultJobs, resultTitle, state, toast, update } from "./state.js";

export function setUp() {
  $("engine").onchange = showEngine;
  $("try-frame").onclick = () => start({ frame: state.frame });
  $("try-seconds").onclick = () => start({ seconds: 2, first: state.frame });
  $("form").onsubmit = (event) => {
    event.preventDefault();
    start({});
  };
}

export function fillEngines() {
  const able = state.engines.filter(({ available }) => available);
  $("engine").replaceChildren(
    element("option", { value: "auto" }, `Best that can run here (${able.find(({ usual }) => usual)?.name ?? "none"})`),
    ...state.engines.map((one) => element("option", { value: one.name, disabled: !one.available }, one.available ? one.name : `${one.name} (cannot run here)`)),
  );
  const first = able.find(({ usual }) => usual);
  if (first) $("engine").value = first.name;
  showEngine();
}

function engine() {
  return state.engines.find(({ name }) => name === $("engine").value);
}

function showEngine() {
  const one = engine();
  const absent = state.engines.filter(({ available }) => !available);
  $("engine-text").textContent = one ? `${one.summary[0].toUpperCase()}${one.summary.slice(1)}. Needs ${one.needs}.${one.max_seconds ? ` Works on the first ${one.max_seconds} seconds.` : ""}` : "The first of the list that can run.";
  $("absent").hidden = !absent.length;
  $("absent-list").replaceChildren(...absent.map(({ name, summary, needs, reason }) => element("li", {}, element("b", {}, name), ` (${summary}): ${reason}; it needs ${needs}.`)));
  $("prompt").placeholder = one && !one.needs_prompt ? "leave empty for what was behind it" : "";
  $("prompt-field").hidden = one ? !one.takes_prompt : !state.engines.some(({ available, takes_prompt: text }) => available && text);
  $("options").replaceChildren(...(one?.options ?? []).filter(({ type }) => type !== "path").map(option));
  if (!$("options").children.length) $("options").append(element("p", { class: "hint" }, "It has no options."));
}

function option({ name, help, type, default: usual, choices }) {
  const data = { "data-option": name, "data-type": type, id: `option-${name}` };
  let field;
  if (type === "bool") field = element("input", { ...data, "data-usual": String(usual === true), type: "checkbox", checked: usual === true });
  else if (choices) field = element("select", data, element("option", { value: "" }, "default"), ...choices.map((value) => element("option", { value }, String(value))));
  else field = element("input", { ...data, type: type === "str" ? "text" : "number", step: type === "float" ? "any" : "1", placeholder: usual ?? "" });
  return element("label", {}, `${name.replaceAll("_", " ")} `, field, element("small", {}, help));
}

function options() {
  const found = {};
  for (const field of $("options").querySelectorAll("[data-option]")) {
    const { option: name, type } = field.dataset;
    if (type === "bool") {
      if (field.checked !== (field.dataset.usual === "true")) found[name] = field.checked;
    } else if (field.value !== "") found[name] = type === "int" ? parseInt(field.value, 10) : type === "float" ? Number(field.value) : field.value;
  }
  return found;
}

const chosenExports = () => [...document.querySelectorAll("[data-export]")].filter(({ checked }) => checked).map((box) => box.dataset.export);

async function start(part) {
  const job = await attempt(() =>
    api.job(state.project.id, { kind: "inpaint", engine: $("engine").value, prompt: $("prompt").value || null, options: options(), seed: Number($("seed").value || 42), export: chosenExports(), ...part }),
  );
  if (job) toast(part.frame !== undefined ? "This frame is being inpainted." : part.seconds ? "Two seconds are being inpainted." : "It is being inpainted.");
}

// --- results ------------------------------------------------------------------------------------------------

export function look(job) {
  const { first, count, focus } = job.facts;
  const frame = focus ?? Math.min(Math.max(state.frame, first), first + count - 1);
  update({ result: job.id, view: "split", other: null, frame, flip: false });
  go(frame);
  $("main").scrollTo(0, 0); // on a phone the picture and its views stand above
}

export function leave() {
  update({ result: null, flip: false });
}

const AT_WORK = { track: () => "Tracking", find: ({ settings }) => `Looking for ${settings.find}`, export: ({ settings }) => `Writing ${settings.ending}`, inpaint: (job) => `Inpainting (${resultTitle(job)})` };

export function draw() {
  const { project } = state;
  if (!project) return;
  const open = openJobs(project).filter(({ kind }) => kind !== "proxy");
  const ended = project.jobs.filter(({ state: how, kind }) => (how === "failed" || how === "cancelled") && kind !== "proxy").slice(-5).reverse();
  const queue = [
    ...open.map((job) => atWork(job, AT_WORK[job.kind](job), "li")),
    ...ended.map((job) => [`${job.id} ${job.state}`, () => endedCard(job)]),
  ];
  fill($("queue"), queue.length ? queue : [["none", () => element("li", { class: "hint" }, "Nothing.")]]);
  const results = resultJobs(project).reverse();
  $("tab-results").textContent = results.length ? `3 Results (${results.length})` : "3 Results";
  const cards = results.map((job) => [JSON.stringify([job.id, state.result === job.id, project.name, endings.length, madeOf(project, job)]), () => resultCard(project, job)]);
  fill($("results"), cards.length ? cards : [["none", () => element("li", { class: "hint" }, "Results appear here.")]]);
  drawViews(results);
}

function endedCard(job) {
  const what = AT_WORK[job.kind](job);
  return element("li", { class: "job" }, element("p", { class: job.state === "failed" ? "bad" : "" }, job.state === "failed" ? `${what}: ${job.message}` : `Cancelled: ${what}`), element("button", { class: "small", "aria-label": `Dismiss: ${what}`, onclick: () => attempt(() => api.forget(job.id)) }, "Dismiss"));
}

const NAMES = { "result_vis.mp4": "Panels", "run.json": "Settings", "matte.mp4": "Matte", "foreground.mov": "Cut out", "seen.mp4": "What was seen" };
const stem = (project) => project.name.replace(/\.\w+$/, "");

function resultCard(project, job) {
  const file = (name, text) => element("a", { href: `/api/jobs/${job.id}/files/${name}`, download: `${stem(project)} ${name}` }, text);
  const { facts } = job;
  const files = [facts.result, ...facts.files.filter((name) => name in NAMES)];
  const seconds = Math.round(job.ended - job.started);
  return element(
    "li",
    { class: `job${state.result === job.id ? " chosen" : ""}` },
    element("p", {}, element("b", {}, resultTitle(job))),
    element("p", {}, element("small", {}, `${facts.count} ${facts.count === 1 ? "frame" : "frames"} in ${seconds < 1 ? "less than 1" : seconds} s, made at ${new Date(1000 * job.ended).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`)),
    facts.seen ? element("p", {}, element("small", {}, seenText(facts))) : null,
    ...facts.warnings.map((text) => element("p", {}, element("small", {}, text))),
    element("p", {}, ...files.map((name) => file(name, NAMES[name] ?? "Result"))),
    element("div", { class: "row" }, element("button", { "data-keep": `look ${job.id}`, "aria-label": `Compare: ${resultTitle(job)}`, onclick: () => look(job) }, "Compare"), element("button", { class: "small", "aria-label": `Delete: ${resultTitle(job)}`, onclick: () => forget(job) }, "Delete")),
    otherFiles(project, job),
  );
}

// How much of the hole other frames show; the rest was made up.
function seenText({ seen, count }) {
  if (seen.share === 1) return "All of the hole is seen in other frames.";
  const share = Math.min(99.9, 100 * seen.share).toFixed(1);
  return `${share} % of the hole is seen in other frames; ${seen.lacking} of ${count} frames have something that none shows (view Seen, red).`;
}

let endings = []; // what results can be written as: {ending, codecs}
export async function fillEndings() {
  endings = await api.endings();
  update();
}

const asked = new Map(); // job -> {ending, codec, quality, open}; the card is drawn anew while something is chosen
const madeOf = (project, job) => project.jobs.filter(({ kind, state: how, facts }) => kind === "export" && how === "done" && facts.of === job.id);

// The same result with another ending, codec or quality.
function otherFiles(project, job) {
  const want = asked.get(job.id) ?? { ending: ".webm", codec: "", quality: "80", open: false };
  asked.set(job.id, want);
  const links = madeOf(project, job).map((one) => {
    const { ending, codec, quality } = one.settings;
    return element("a", { href: `/api/jobs/${one.id}/files/${one.facts.files[0]}`, download: `${stem(project)} ${one.facts.files[0]}` }, [ending, codec, quality !== undefined && `quality ${quality}`].filter(Boolean).join(", "));
  });
  const codec = element("select", { "aria-label": "Codec", onchange: () => (want.codec = codec.value) });
  const fillCodecs = () => {
    const names = endings.find((one) => one.ending === want.ending)?.codecs ?? [];
    if (!names.includes(want.codec)) want.codec = "";
    codec.replaceChildren(element("option", { value: "" }, "usual codec"), ...names.map((name) => element("option", { value: name, selected: name === want.codec }, name)));
  };
  const ending = element("select", { "aria-label": "Ending", onchange: () => { want.ending = ending.value; fillCodecs(); } }, ...endings.map((one) => element("option", { value: one.ending, selected: one.ending === want.ending }, one.ending === ".zip" ? ".zip of images" : one.ending)));
  fillCodecs();
  const quality = element("input", { type: "number", min: "0", max: "100", value: want.quality, "aria-label": "Quality, 0 to 100", onchange: () => (want.quality = quality.value) });
  const make = () => attempt(() => api.rewrite(job.id, { ending: want.ending, codec: want.codec || null, quality: want.quality === "" ? null : Number(want.quality) }));
  return element("details", { open: want.open, ontoggle: (event) => (want.open = event.target.open) }, element("summary", {}, "Other endings and qualities"), element("div", { class: "row export" }, ending, codec), element("div", { class: "row export" }, element("label", {}, "Quality ", quality), element("button", { "data-keep": `make ${job.id}`, onclick: make }, "Make")), ...(links.length ? [element("p", {}, ...links)] : []));
}

async function forget(job) {
  if (!confirm("Delete this result?")) return;
  if (state.result === job.id) leave();
  await attempt(() => api.forget(job.id));
}

function drawViews(results) {
  const job = results.find(({ id }) => id === state.result);
  $("views").hidden = !job;
  document.querySelector('[data-view="seen"]').hidden = !job?.facts.seen;
  const others = results.filter(({ id }) => id !== state.result);
  fill($("other"), [["", () => element("option", { value: "" }, "Original")], ...others.map((one) => [`${one.id} ${resultTitle(one)}`, () => element("option", { value: one.id }, resultTitle(one))])]);
  $("other").value = state.other ?? "";
}
