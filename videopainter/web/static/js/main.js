// The page: what is open, what changes it, and what is drawn when it has changed.

import { api, posterUrl, upload } from "./api.js";
import * as geometry from "./geometry.js";
import * as inpaint from "./inpaint.js";
import * as polygon from "./polygon.js";
import * as select from "./select.js";
import * as timeline from "./timeline.js";
import * as viewer from "./viewer.js";
import { $, clock, element, hideToast, icon, listen, note, resultJobs, state, toast, update } from "./state.js";

let events = null;

// --- opening ------------------------------------------------------------------------------------------------

async function showStart() {
  events?.close();
  timeline.pause();
  history.replaceState(null, "", location.pathname);
  update({ project: null, result: null });
  $("editor").hidden = $("name").hidden = $("undo").hidden = $("redo").hidden = true;
  $("start").hidden = false;
  const projects = (await select.attempt(api.projects)) ?? [];
  $("earlier").hidden = !projects.length;
  $("projects").replaceChildren(...projects.map(projectCard));
}

function projectCard(one) {
  return element(
    "li",
    {},
    element("button", { class: "open", onclick: () => load(one.id) },
      element("img", { src: posterUrl(one.id), alt: "", loading: "lazy" }),
      element("span", { class: "text" }, element("b", {}, one.name), element("small", {}, `${one.width} × ${one.height}, ${clock(one.frames / one.fps)}`))),
    element("button", { class: "small away", "aria-label": `Delete ${one.name}`, onclick: async () => {
      if (confirm(`Delete the project "${one.name}" with its masks and results?`)) {
        await select.attempt(() => api.remove(one.id));
        showStart();
      }
    } }, icon("close")),
  );
}

async function load(id) {
  const project = await select.attempt(() => api.project(id));
  if (project) open(project);
  else showStart();
}

function open(project) {
  const { id } = project;
  timeline.pause();
  hideToast();
  history.replaceState(null, "", `#project=${id}`);
  $("start").hidden = true;
  $("editor").hidden = $("name").hidden = $("undo").hidden = $("redo").hidden = false;
  update({ project, frame: project.in, result: null, object: project.objects.at(-1)?.id ?? null, fresh: false, away: false, area: null, view: "split", margin: project.dilate_size ?? select.USUAL_MARGIN });
  showTab("select");
  geometry.fit();
  note(project.warnings[0] ?? "");
  select.attempt(async () => {
    update({ engines: await api.engines() });
    inpaint.fillEngines();
    await Promise.all([select.fillSegmenters(), select.fillFinders(), inpaint.fillEndings()]);
  });
  follow(id);
}

function follow(id) {
  events?.close();
  events = api.events(id);
  events.addEventListener("project", (event) => select.take(JSON.parse(event.data)));
  events.addEventListener("jobs", (event) => {
    if (state.project?.id === id) update({ project: { ...state.project, jobs: JSON.parse(event.data) } });
  });
  events.addEventListener("gone", () => {
    toast("This project was deleted.");
    showStart();
  });
  events.onerror = () => note("The server does not answer; trying again.");
  events.onopen = () => $("note").textContent.startsWith("The server") && note();
}

// A job that ends while it is watched says so, and a result is shown.
const seen = new Map();
function tellEnds() {
  for (const job of state.project?.jobs ?? []) {
    const before = seen.get(job.id);
    seen.set(job.id, job.state);
    if (!before && !job.ended && $("note").textContent.startsWith("Tracked")) note(); // that is past
    if (!before || before === job.state || job.kind === "proxy") continue;
    if (job.state === "failed") toast(job.message);
    if (job.state === "done" && job.kind === "inpaint") {
      showTab("results");
      inpaint.look(job);
    }
    if (job.state === "done" && job.kind === "track") {
      const marked = state.project.timeline.some(({ marks }) => marks.length);
      note(marked ? "Tracked. Frames that want a look are listed; M goes to the next one." : "Tracked.");
    }
    if (job.state === "done" && job.kind === "find") note(`Found: ${job.settings.find}.`);
    if (job.state === "cancelled") note("Cancelled.");
  }
}

async function send(file) {
  if (!file) return;
  const { done, abort } = upload(file, (part) => {
    $("upload").value = part;
    $("uploaded").textContent = part < 1 ? `${Math.round(100 * part)} %` : "reading…";
  });
  $("uploading").hidden = false;
  $("upload").value = 0;
  $("upload-name").textContent = file.name;
  $("uploaded").textContent = "";
  $("abort").onclick = abort;
  const project = await select.attempt(() => done);
  $("uploading").hidden = true;
  $("file").value = "";
  if (project) open(project);
}

// --- what people press --------------------------------------------------------------------------------------

function showTab(name) {
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (name === "select" && state.result) inpaint.leave();
}

function choose(tool) {
  polygon.drop();
  update({ tool });
}

function setUp() {
  viewer.setUp(select.addPrompt);
  timeline.setUp(select.changeSpan);
  select.setUp();
  inpaint.setUp();
  $("toast").onclick = hideToast;
  $("home").onclick = showStart;
  $("pick").onclick = () => $("file").click();
  $("file").onchange = () => send($("file").files[0]);
  $("example").onclick = async () => {
    const project = await select.attempt(api.example);
    if (project) open(project);
  };
  $("name").onchange = () => select.attempt(async () => select.take(await api.change(state.project.id, { name: $("name").value || "video" })));
  $("undo").onclick = () => select.history("undo");
  $("redo").onclick = () => select.history("redo");
  $("help").onclick = () => $("keys").showModal();
  $("fit").onclick = geometry.fit;
  $("away").onclick = () => update({ away: !state.away });
  $("radius").oninput = () => update({ radius: Number($("radius").value) });
  $("split").oninput = () => update({ split: Number($("split").value) / 1000 });
  $("leave").onclick = () => showTab("select");
  $("other").onchange = () => update({ other: $("other").value || null });
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => choose(button.dataset.tool);
  for (const button of document.querySelectorAll("[data-view]")) button.onclick = () => update({ view: button.dataset.view });
  for (const tab of document.querySelectorAll('[role="tab"]')) tab.onclick = () => showTab(tab.id.slice(4));
  document.querySelector('[role="tablist"]').addEventListener("keydown", (event) => {
    const names = ["select", "inpaint", "results"];
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const now = names.findIndex((name) => $(`tab-${name}`).getAttribute("aria-selected") === "true");
    const next = names[(now + by + 3) % 3];
    showTab(next);
    $(`tab-${next}`).focus();
    event.stopPropagation();
  });
  setUpDrop();
  document.addEventListener("keydown", pressed);
  document.addEventListener("keyup", (event) => event.key.toLowerCase() === "b" && state.flip && update({ flip: false }));
}

function setUpDrop() {
  const files = (event) => event.dataTransfer?.types.includes("Files");
  const veil = (shown) => ($("veil").hidden = !shown);
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    if (files(event)) veil(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && veil(false)); // out of the window
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    veil(false);
    if (files(event)) send(event.dataTransfer.files[0]);
  });
}

function pressed(event) {
  if (!state.project || $("keys").open) return;
  const typing = event.target.matches('input:not([type="range"]):not([type="checkbox"]), textarea, select');
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (control && !typing && (key === "z" || key === "y")) {
    event.preventDefault();
    if (polygon.drawing()) {
      polygon.back();
      update();
    } else select.history(key === "y" || event.shiftKey ? "redo" : "undo");
    return;
  }
  if (typing || control || event.altKey) return;
  const range = event.target.matches('input[type="range"]');
  const button = event.target.matches("button, summary, a");
  const far = event.shiftKey ? 10 : 1;
  const keys = {
    arrowleft: () => !range && timeline.go(state.frame - far),
    arrowright: () => !range && timeline.go(state.frame + far),
    home: () => !range && timeline.go(0),
    end: () => !range && timeline.go(state.project.frames - 1),
    " ": () => !button && timeline.toggle(),
    i: () => $("in").click(),
    o: () => $("out").click(),
    c: () => choose("click"),
    x: () => choose("box"),
    r: () => choose("brush"),
    e: () => choose("eraser"),
    p: () => choose("polygon"),
    h: () => choose("pan"),
    n: select.nextExtent,
    t: select.track,
    m: select.nextMark,
    a: () => update({ away: !state.away }),
    b: () => state.result && !state.flip && update({ flip: true }),
    "+": () => geometry.zoomBy(1.25),
    "=": () => geometry.zoomBy(1.25),
    "-": () => geometry.zoomBy(0.8),
    0: geometry.fit,
    "?": () => $("keys").showModal(),
  };
  if (keys[key] && keys[key]() !== false) event.preventDefault();
}

// --- drawing ------------------------------------------------------------------------------------------------

function draw() {
  const { project } = state;
  document.title = project ? `${project.name} – VideoPainter` : "VideoPainter";
  if (!project) return;
  if (document.activeElement !== $("name")) $("name").value = project.name;
  $("undo").disabled = !project.undo;
  $("redo").disabled = !project.redo;
  if (state.result && !resultJobs(project).some(({ id }) => id === state.result)) state.result = null;
  $("split").hidden = !(state.result && state.view === "split" && !state.flip);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.disabled = Boolean(state.result) && button.dataset.tool !== "pan";
    button.setAttribute("aria-pressed", String(button.dataset.tool === state.tool));
  }
  $("away").setAttribute("aria-pressed", String(state.away));
  $("editor").classList.toggle("comparing", Boolean(state.result));
  $("away").disabled = Boolean(state.result);
  document.querySelector("#tools .size").hidden = state.tool !== "brush" && state.tool !== "eraser";
  $("other").hidden = state.view !== "sides";
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  tellEnds();
  viewer.draw();
  timeline.draw();
  select.draw();
  inpaint.draw();
}

listen(draw);
setUp();
if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash); // it is in the cookie now
const asked = /^#project=([0-9a-f]{16})$/.exec(location.hash);
if (asked) load(asked[1]);
else showStart();
