// Requests of these pages, and the actions that change something.

import { ADMIN, getBlob, getJson, sendJson } from "../lib/api.js";
import { confirmDialog } from "../lib/dialog.js";
import { download } from "../lib/dom.js";
import { html } from "../lib/html.js";
import { at } from "../lib/place.js";

export const BASE = at("v1/admin/calibrations");
export const path = (id, ...rest) => [BASE, ...[id, ...rest].map(encodeURIComponent)].join("/");

export const page = (id) => at(`calibrations?id=${encodeURIComponent(id)}`);

/** Before and after a switch to it. */
export const trial = (id) => `${page(id)}&try`;

export const title = ({ name, id }) => name || id;

export const listed = () => getJson(BASE, ADMIN);
export const pending = () => getJson(`${BASE}?state=pending`, ADMIN);
export const upscalers = () => getJson(at("v1/upscalers"), ADMIN);
export const detail = (id, group, more = {}) =>
  getJson(`${path(id)}${asked({ group })}`, { ...ADMIN, ...more });
export const pairs = (id) => getJson(path(id, "pairs"), ADMIN);
/** Which of these paths are pairs: {pairs: [{name, x, y, label, group}], groups, items: [{name, reason}], used: names}. */
export const arranged = (asked) => sendJson("POST", at("v1/admin/pairs/check"), asked);
export const cancelJob = (id) => sendJson("DELETE", at(`v1/jobs/${encodeURIComponent(id)}`));

/** The caller revokes the address. Throws ApiError. */
export async function picture(id, name, part) {
  return URL.createObjectURL(await getBlob(path(id, "pairs", name, `${part}.png`), ADMIN));
}

/** The active calibration of an upscaler among the rows of the list, or null. */
export const activeOf = (rows, upscaler) =>
  rows.find((row) => row.active && row.upscaler === upscaler) ?? null;

export async function remove({ name, id }) {
  const sure = await confirmDialog({
    title: "Delete this calibration?",
    body: html`<p>${name} <code>${id}</code></p>
      <p>This cannot be undone unless it was exported. Its results stay until they expire.</p>`,
    confirm: "Delete",
    danger: true,
  });
  if (sure) await sendJson("DELETE", path(id));
  return sure;
}

export const exported = async (id) => download(await getBlob(path(id, "export"), ADMIN), `${id}.calibration`);

export function imported(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return getJson(`${BASE}/import`, { method: "POST", body: file, headers, ...ADMIN });
}

/** Ask, then derive a calibration without one pair; its id, or null. */
export async function removePair(id, name) {
  const sure = await confirmDialog({
    title: "Leave this pair out?",
    body: html`<p><strong>${name}</strong></p>
      <p>This makes a new calibration from the stored measurements; the present one stays as it is.</p>
      <p class="callout warn">
        Leave a pair out because it is faulty: a wrong crop, a mismatched truth. Choosing pairs by their loss voids the promise.
      </p>`,
    confirm: "Make one without it",
  });
  if (!sure) return null;
  return (await sendJson("DELETE", path(id, "pairs", name))).id;
}

function asked(fields) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value ?? false));
  return query.size ? `?${query}` : "";
}

/**
 * metrics and estimators of σ, the default first; as how many kinds of upload each original is measured,
 * unless it is said how its small version is made.
 *
 * @type {{metrics: any[], estimators: any[], usual_kinds: number, default_alpha: number}}
 */
export const options = { metrics: [], estimators: [], usual_kinds: 1, default_alpha: 0.1 };

/** Ask for the options once; the words of all views rest on them. */
export async function load() {
  if (!options.metrics.length) Object.assign(options, await getJson(at("v1/admin/options"), ADMIN));
}

/** An estimator by its name; undefined where the service has none such. */
export const estimatorOf = (name) => options.estimators.find((row) => row.estimator === name);

/** A metric by its name; undefined where the service has none such. */
export const metricOf = (name) => options.metrics.find((row) => row.metric === name);
