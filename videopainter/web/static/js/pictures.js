// Pictures by address: the last ones are kept, as many are fetched at once as the server can make.

const MOST_KEPT = 90;
const AT_ONCE = 4;
const kept = new Map(); // address -> ImageBitmap
const coming = new Map(); // address -> promise
let waiting = []; // {address, start}
let running = 0;

export const have = (address) => kept.get(address);

export function picture(address, urgent = true) {
  if (kept.has(address)) {
    const bitmap = kept.get(address);
    kept.delete(address);
    kept.set(address, bitmap); // the youngest again
    return Promise.resolve(bitmap);
  }
  if (coming.has(address)) return coming.get(address);
  const promise = new Promise((resolve, reject) => {
    const start = () => fetchOne(address).then(resolve, reject);
    if (urgent) waiting.unshift({ address, start });
    else waiting.push({ address, start });
    next();
  });
  coming.set(address, promise);
  promise.catch(() => {}).finally(() => coming.delete(address));
  return promise;
}

// What waits and is not wanted any more is not fetched.
export function onlyWanted(addresses) {
  const wanted = new Set(addresses);
  for (const one of waiting.filter(({ address }) => !wanted.has(address))) coming.delete(one.address);
  waiting = waiting.filter(({ address }) => wanted.has(address));
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    waiting.shift().start();
  }
}

async function fetchOne(address) {
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `status ${answer.status}`);
    const bitmap = await createImageBitmap(await answer.blob());
    kept.set(address, bitmap);
    while (kept.size > MOST_KEPT) {
      const [oldest, bitmapOfOldest] = kept.entries().next().value;
      kept.delete(oldest);
      bitmapOfOldest.close();
    }
    return bitmap;
  } finally {
    running -= 1;
    next();
  }
}
