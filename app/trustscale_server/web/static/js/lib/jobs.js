// Jobs: their events, read by fetch because EventSource cannot send a key, and the time that they still take.

import { request } from "./api.js";
import { at } from "./place.js";

const LAST = ["succeeded", "failed", "cancelled", "expired", "awaiting_labels"];

export const isOver = ({ state }) => LAST.includes(state);

/** The data of each event of a stream, as text. */
async function* events(path, options) {
  const response = await request(path, { ...options, headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5)).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Follow a job to its last state, which is returned; onLost() when the connection breaks. A broken stream is opened
 * again, with growing pauses.
 *
 * @param {string} id
 * @param {{onJob: (job: any) => void, onLost?: () => void, kind?: string, signal?: AbortSignal}} hands
 */
export async function watchJob(id, { onJob, onLost = () => {}, kind = "client", signal }) {
  let last = null;
  for (let failures = 0; ;) {
    try {
      for await (const data of events(at(`v1/jobs/${encodeURIComponent(id)}/events`), { kind, signal })) {
        failures = 0;
        last = JSON.parse(data);
        onJob(last);
      }
      if (last && isOver(last)) return last;
    } catch (error) {
      const passing = error.status === 0 || error.status >= 500 || error instanceof TypeError;
      if (error.name === "AbortError" || !passing) throw error;
      onLost();
    }
    failures += 1;
    await pause(Math.min(500 * 2 ** failures, 10_000), signal);
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Estimates how long the rest of some work takes from the pace of its steps. */
export class Pace {
  /** @type {{done: number, at: number} | null} */
  first = null;
  /** @type {{done: number, at: number} | null} */
  last = null;

  saw(done) {
    const now = { done, at: performance.now() };
    this.first ??= now;
    if (done !== this.last?.done) this.last = now;
  }

  /** Milliseconds up to the last of `total` steps, at `usual` ms a step until one was seen; null: unknown, or overdue. */
  left(total, usual = null) {
    const seen = this.last.done - this.first.done;
    const pace = seen ? (this.last.at - this.first.at) / seen : usual;
    if (pace === null) return null;
    const left = pace * (total - this.last.done) - (performance.now() - this.last.at);
    return left < -pace ? null : Math.max(0, left);
  }
}

/** Run work(item) for all items, at most `width` at a time. */
export async function pooled(items, width, work) {
  const queue = [...items];
  const worker = async () => {
    while (queue.length) await work(queue.shift());
  };
  await Promise.all(Array.from({ length: width }, worker));
}
