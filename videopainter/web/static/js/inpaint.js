// The panels "Inpaint" and "Results": engines and their options, the queue, what came of it.

import { api } from "./api.js";
import { attempt, progress } from "./select.js";
import { go } from "./timeline.js";
import { $, element, openJobs, resultJobs, state, toast, update } from "./state.js";

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
    element("option", { value: "auto" }, `Best that can run here (${able[0]?.name ?? "none"})`),
    ...state.engines.map((one) => element("option", { value: one.name, disabled: !one.available }, one.available ? one.name : `${one.name} (cannot run here)`)),
  );
  const first = able.find(({ takes_prompt: text }) => !text);
  if (first) $("engine").value = first.name;
  showEngine();
}

function engine() {
  return state.engines.find(({ name }) => name === $("engine").value);
}

function showEngine() {
  const one = engine();
  const absent = state.engines.filter(({ available }) => !available);
  $("engine-text").textContent = one ? `${one.summary[0].toUpperCase()}${one.summary.slice(1)}. Needs ${one.needs}.` : "The first of the list that can run.";
  $("absent").hidden = !absent.length;
  $("absent-list").replaceChildren(...absent.map(({ name, reason }) => element("li", {}, element("b", {}, name), `: ${reason}`)));
  $("prompt-field").hidden = one ? !one.takes_prompt : !state.engines.some(({ available, takes_prompt: text }) => available && text);
  $("options").replaceChildren(...(one?.options ?? []).filter(({ type }) => type !== "path").map(option));
  if (!$("options").children.length) $("options").append(element("p", { class: "hint" }, "It has no options."));
}

function option({ name, help, type, default: usual, choices }) {
  const data = { "data-option": name, "data-type": type, id: `option-${name}` };
  let field;
  if (type === "bool") field = element("input", { ...data, type: "checkbox", checked: usual === true });
  else if (choices) field = element("select", data, element("option", { value: "" }, "default"), ...choices.map((value) => element("option", { value }, String(value))));
  else field = element("input", { ...data, type: type === "str" ? "text" : "number", step: type === "float" ? "any" : "1", placeholder: usual ?? "" });
  return element("label", {}, `${name.replaceAll("_", " ")} `, field, element("small", {}, help));
}

function options() {
  const found = {};
  for (const field of $("options").querySelectorAll("[data-option]")) {
    const { option: name, type } = field.dataset;
    if (type === "bool") {
      if (field.checked) found[name] = true;
    } else if (field.value !== "") found[name] = type === "int" ? parseInt(field.value, 10) : type === "float" ? Number(field.value) : field.value;
  }
  return found;
}

async function start(part) {
  const job = await attempt(() =>
    api.job(state.project.id, { kind: "inpaint", engine: $("engine").value, prompt: $("prompt").value || null, options: options(), ...part }),
  );
  if (job) toast(part.frame !== undefined ? "This frame is being inpainted." : part.seconds ? "Two seconds are being inpainted." : "It is being inpainted.");
}

// --- results ------------------------------------------------------------------------------------------------

export function look(job) {
  const { first, count, focus } = job.facts;
  const frame = focus ?? Math.min(Math.max(state.frame, first), first + count - 1);
  update({ result: job.id, view: "split", other: null, frame, flip: false });
  go(frame);
  $("stage").scrollIntoView({ block: "nearest" });
}

export function leave() {
  update({ result: null, flip: false });
}

const title = (job) => {
  const { engine: name, prompt, options: chosen = {}, seed, spine: { dilate_size: margin, effects } = {} } = job.settings;
  const extra = Object.entries(chosen).map(([key, value]) => `${key} ${value}`);
  if (seed !== 42) extra.push(`seed ${seed}`);
  if (effects === "off") extra.push("without the shadow");
  if (margin !== undefined && margin !== null) extra.push(`margin ${margin / 2}`);
  const reach = job.settings.frame !== undefined ? `frame ${job.settings.frame}` : job.settings.seconds ? `${job.settings.seconds} s` : "all";
  return [job.facts.engine ?? name, reach, prompt && `“${prompt}”`, ...extra].filter(Boolean).join(", ");
};

let drawn = "";

export function draw() {
  const { project } = state;
  if (!project) return;
  const key = JSON.stringify([project.id, project.jobs, state.result, state.other]);
  if (key === drawn) return;
  drawn = key;
  const open = openJobs(project).filter(({ kind }) => kind !== "proxy");
  const failed = project.jobs.filter(({ state: how, kind }) => (how === "failed" || how === "cancelled") && kind !== "proxy").slice(-5).reverse();
  $("queue").replaceChildren(
    ...open.map((job) => element("li", {}, progress(job, { track: "Tracking", export: `Writing ${job.settings.ending}` }[job.kind] ?? `Inpainting (${title(job)})`))),
    ...failed.map((job) => element("li", { class: "job" }, element("p", { class: job.state === "failed" ? "bad" : "" }, job.state === "failed" ? job.message : `Cancelled: ${job.kind}`), element("button", { class: "small", onclick: () => attempt(() => api.forget(job.id)) }, "Dismiss"))),
  );
  if (!$("queue").children.length) $("queue").append(element("li", { class: "hint" }, "Nothing."));
  const results = resultJobs(project).reverse();
  $("tab-results").textContent = results.length ? `3 Results (${results.length})` : "3 Results";
  $("results").replaceChildren(...results.map((job) => resultCard(project, job)));
  if (!results.length) $("results").append(element("li", { class: "hint" }, "Results appear here."));
  drawViews(results);
}

function resultCard(project, job) {
  const file = (name, text) => element("a", { href: `/api/jobs/${job.id}/files/${name}`, download: `${project.name.replace(/\.\w+$/, "")} ${name}` }, text);
  const files = job.facts.files.filter((name) => name.startsWith("result") || name === "run.json");
  const seconds = Math.round(job.ended - job.started);
  return element(
    "li",
    { class: `job${state.result === job.id ? " chosen" : ""}` },
    element("p", {}, element("b", {}, title(job))),
    element("p", {}, element("small", {}, `${job.facts.count} frames in ${seconds} s`)),
    ...job.facts.warnings.map((text) => element("p", {}, element("small", {}, text))),
    element("p", {}, ...files.map((name) => file(name, { "result_vis.mp4": "Panels", "run.json": "Settings" }[name] ?? (name === job.facts.result ? "Result" : name)))),
    element("div", { class: "row" }, element("button", { onclick: () => look(job) }, "Compare"), element("button", { class: "small", onclick: () => forget(job) }, "Delete")),
    otherFiles(project, job),
  );
}

const ENDINGS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".zip"];
const chosen = new Map(); // job -> {ending, quality, open}; the card is drawn anew while something is chosen

// The same result with another ending or quality.
function otherFiles(project, job) {
  const asked = chosen.get(job.id) ?? { ending: ".webm", quality: "80", open: false };
  chosen.set(job.id, asked);
  const made = project.jobs.filter(({ kind, state: how, facts }) => kind === "export" && how === "done" && facts.of === job.id);
  const stem = project.name.replace(/\.\w+$/, "");
  const links = made.map((one) => element("a", { href: `/api/jobs/${one.id}/files/${one.facts.files[0]}`, download: `${stem} ${one.facts.files[0]}` }, `${one.settings.ending}${one.settings.quality === undefined ? "" : `, quality ${one.settings.quality}`}`));
  const ending = element("select", { "aria-label": "Ending", onchange: () => (asked.ending = ending.value) }, ...ENDINGS.map((value) => element("option", { value, selected: value === asked.ending }, value === ".zip" ? ".zip of images" : value)));
  const quality = element("input", { type: "number", min: "0", max: "100", value: asked.quality, "aria-label": "Quality, 0 to 100", onchange: () => (asked.quality = quality.value) });
  const go = element("button", { onclick: () => attempt(() => api.rewrite(job.id, { ending: ending.value, quality: quality.value === "" ? null : Number(quality.value) })) }, "Make");
  return element("details", { open: asked.open, ontoggle: (event) => (asked.open = event.target.open) }, element("summary", {}, "Other endings and qualities"), element("div", { class: "row export" }, ending, element("label", {}, "Quality ", quality), go), ...(links.length ? [element("p", {}, ...links)] : []));
}

async function forget(job) {
  if (!confirm("Delete this result?")) return;
  if (state.result === job.id) leave();
  await attempt(() => api.forget(job.id));
}

function drawViews(results) {
  $("views").hidden = !state.result;
  const others = results.filter(({ id }) => id !== state.result);
  $("other").replaceChildren(element("option", { value: "" }, "Original"), ...others.map((job) => element("option", { value: job.id, selected: job.id === state.other }, title(job))));
}
