// Server-sent events over fetch, because EventSource cannot send a key.

import { request } from "./api.js";

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
      for await (const data of events(`/v1/jobs/${encodeURIComponent(id)}/events`, { kind, signal })) {
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
