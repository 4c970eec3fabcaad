// The REST interface, as functions. Errors carry the server's one sentence.

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  const options = { method };
  if (body instanceof Blob) {
    options.body = body;
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new ServerError("The server does not answer; is it still running?", 0);
  }
  if (!answer.ok) throw new ServerError(await reason(answer), answer.status);
  return answer.status === 204 ? null : answer.json();
}

async function reason(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : detail.map((one) => one.msg.replace(/^Value error, /, "")).join("; ");
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

const project = (id) => `/api/projects/${id}`;

export const api = {
  projects: () => call("GET", "/api/projects"),
  finders: () => call("GET", "/api/finders"),
  endings: () => call("GET", "/api/endings"),
  prepare: (id, n) => call("POST", `${project(id)}/frames/${n}/prepare`),
  segmenters: () => call("GET", "/api/segmenters"),
  rewrite: (job, request) => call("POST", `/api/jobs/${job}/exports`, request),
  proxy: (id) => call("POST", `${project(id)}/proxy`),
  engines: () => call("GET", "/api/engines"),
  project: (id) => call("GET", project(id)),
  example: () => call("POST", "/api/projects/example"),
  change: (id, settings) => call("PATCH", project(id), settings),
  remove: (id) => call("DELETE", project(id)),
  objects: (id, objects, after) => call("PUT", `${project(id)}/objects`, { objects, after }),
  undo: (id) => call("POST", `${project(id)}/undo`),
  redo: (id) => call("POST", `${project(id)}/redo`),
  masks: (id, file, how) => call("PUT", `${project(id)}/masks?${new URLSearchParams({ name: file.name, ...how })}`, file),
  job: (id, request) => call("POST", `${project(id)}/jobs`, request),
  cancel: (job) => call("POST", `/api/jobs/${job}/cancel`),
  forget: (job) => call("DELETE", `/api/jobs/${job}`),
  events: (id) => new EventSource(`${project(id)}/events`),
};

export const frameUrl = (id, n, width) => `${project(id)}/frames/${n}${width ? `?width=${width}` : ""}`;
export const posterUrl = (id) => `${project(id)}/poster`;
export const resultUrl = (job, n, width, of = "result") => `/api/jobs/${job}/frames/${n}?of=${of}${width ? `&width=${width}` : ""}`;
export const masksUrl = (id, n, width, margin, version) =>
  `${project(id)}/frames/${n}/masks?width=${width}&margin=${margin}&v=${version}`;
export const thumbUrl = (id, n) => `${project(id)}/thumbnails/${n}`;

// XMLHttpRequest, as fetch tells nothing about the progress of an upload.
export function upload(file, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", `/api/projects?name=${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // An answer that is no JSON is told by its number.
      }
      if (request.status === 201) resolve(answer);
      else reject(new ServerError(answer.detail || `The server answered ${request.status}.`, request.status));
    };
    request.onerror = () => reject(new ServerError("The upload broke off.", 0));
    request.onabort = () => reject(new ServerError("", 0));
    request.send(file);
  });
  return { done, abort: () => request.abort() };
}
