// Pictures by address: the last ones are kept, as many are fetched at once as the server can make.

const MOST_PIXELS = 50e6; // of pictures that are kept, 200 MB
const FEWEST = 6; // that are kept, however large
const AT_ONCE = 4;
const kept = new Map(); // address -> ImageBitmap, the one that was asked for last at the end
const coming = new Map(); // address -> {address, promise, resolve, reject}
let pixels = 0;
let waiting = []; // of what is coming, the next one first
let running = 0;

// What a picture's promise is refused with when nobody wants the picture any more.
export class Unwanted extends Error {}

export function have(address) {
  const bitmap = kept.get(address);
  if (bitmap) {
    kept.delete(address);
    kept.set(address, bitmap);
  }
  return bitmap;
}

export function picture(address, urgent = true) {
  const bitmap = have(address);
  if (bitmap) return Promise.resolve(bitmap);
  let one = coming.get(address);
  if (!one) {
    one = { address };
    one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
    one.promise.catch(() => {}); // who wants to know of a failure says so
    coming.set(address, one);
    waiting.push(one);
  }
  if (urgent && waiting.includes(one)) waiting = [one, ...waiting.filter((other) => other !== one)];
  next();
  return one.promise;
}

// What waits and is not wanted any more is not fetched.
export function onlyWanted(addresses) {
  const wanted = new Set(addresses);
  const rest = waiting.filter(({ address }) => !wanted.has(address));
  waiting = waiting.filter(({ address }) => wanted.has(address));
  for (const one of rest) {
    coming.delete(one.address);
    one.reject(new Unwanted());
  }
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    fetchOne(waiting.shift());
  }
}

async function fetchOne(one) {
  try {
    const answer = await fetch(one.address);
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `The server answered ${answer.status}.`);
    const bitmap = await createImageBitmap(await answer.blob());
    keep(one.address, bitmap);
    coming.delete(one.address);
    one.resolve(bitmap);
  } catch (error) {
    coming.delete(one.address);
    one.reject(error instanceof TypeError ? new Error("The server does not answer; trying again.") : error);
  } finally {
    running -= 1;
    next();
  }
}

function keep(address, bitmap) {
  kept.set(address, bitmap);
  pixels += bitmap.width * bitmap.height;
  while (pixels > MOST_PIXELS && kept.size > FEWEST) {
    const [oldest, gone] = kept.entries().next().value;
    kept.delete(oldest);
    pixels -= gone.width * gone.height;
    gone.close(); // who still shows it sees that its width is 0
  }
}
