// What these pages ask of the service, and the actions that change something.

import { ADMIN, getBlob, getJson, sendJson } from "../lib/api.js";
import { CANCEL, confirmDialog, openDialog } from "../lib/dialog.js";
import { download } from "../lib/dom.js";
import { documentOf } from "../lib/form.js";
import { html } from "../lib/html.js";
import { field, number, select } from "../lib/widgets.js";

export const BASE = "/v1/admin/calibrations";
const METHODS = Object.entries({
  hoeffding_bentkus: "Hoeffding–Bentkus",
  wsr: "Waudby-Smith–Ramdas (betting)",
});
/** Kinds of promise, as forms offer them. */
export const PROMISES = Object.entries({
  expectation: "On average over images and calibrations",
  high_probability: "For this calibration, with high probability",
});

/** The path of a calibration, or of something below it. */
export const path = (id, ...rest) => [BASE, ...[id, ...rest].map(encodeURIComponent)].join("/");

/** The address of a page about a calibration or a job. */
export const page = (id) => `/calibrations?id=${encodeURIComponent(id)}`;

/** The name of a calibration as people know it. */
export const title = ({ name, id }) => name || id;

export const listed = () => getJson(BASE, ADMIN);
export const pending = () => getJson(`${BASE}?state=pending`, ADMIN);
export const upscalers = () => getJson("/v1/upscalers", ADMIN);
export const detail = (id, group, more = {}) =>
  getJson(`${path(id)}${asked({ group })}`, { ...ADMIN, ...more });
/** The risk curve in at most `points` steps, or in all. */
export const curve = (id, points, group) => getJson(`${path(id, "curve")}${asked({ points, group })}`, ADMIN);
export const backtest = (id, splits, group) =>
  getJson(`${path(id, "backtest")}${asked({ splits, group })}`, ADMIN);
export const pairs = (id) => getJson(path(id, "pairs"), ADMIN);
/** Which of these paths are pairs: {pairs: [{name, x, y, label, group}], groups, items: [{name, reason}]}. */
export const arranged = (names) => sendJson("POST", "/v1/admin/pairs/check", { names });
export const audit = (limit) => getJson(`/v1/admin/audit?limit=${limit}`, ADMIN);
export const cancelJob = (id) => sendJson("DELETE", `/v1/jobs/${encodeURIComponent(id)}`);

/** The address of a picture of a pair for an <img>; the caller revokes it. Throws ApiError. */
export async function picture(id, name, part) {
  return URL.createObjectURL(await getBlob(path(id, "pairs", name, `${part}.png`), ADMIN));
}

/** The active calibration of an upscaler among the rows of the list, or null. */
export const activeOf = (rows, upscaler) =>
  rows.find((row) => row.active && row.upscaler === upscaler) ?? null;

/** Ask, then delete a calibration; true if that was done. */
export async function remove({ name, id }) {
  const sure = await confirmDialog({
    title: "Delete this calibration?",
    body: html`<p>${name} <code>${id}</code></p>
      <p>It cannot be brought back, unless it was exported. Results that were served from it stay until they expire.</p>`,
    confirm: "Delete",
    danger: true,
  });
  if (sure) await sendJson("DELETE", path(id));
  return sure;
}

/** Ask for another promise, then make a calibration of the same pairs with it; its id, or null. */
export async function derived(found) {
  const isSure = found.guarantee?.kind === "high_probability";
  const wanted = await openDialog({
    title: "Another promise",
    body: html`<div class="stack">
      <p>
        This makes a new calibration of the same pairs, from the stored measurements. Nothing is generated, and nothing is activated.
      </p>
      ${select("guarantee.kind", "Promise", PROMISES, { chosen: isSure ? "expectation" : "high_probability" })}
      ${number("fidelity.bound", "Errors count up to", "", { min: 0.0001, placeholder: found.bound, term: "bound B", hint: "Errors above it count as it: a smaller number makes a larger mask of fewer pairs. Choose it before you look." })}
      ${riskOfDraw()} ${select("guarantee.method", "Method", METHODS, { hint: "Likewise. Choose it before you see what it gives." })}
      ${field("Name", html`<input name="name" maxlength="200" .value=${found.name ?? ""} />`)}
    </div>`,
    actions: [CANCEL, { label: "Make it", value: documentOf, primary: true }],
  });
  if (!wanted) return null;
  if (wanted.guarantee.kind === "expectation") wanted.guarantee = { kind: "expectation" };
  return (await sendJson("POST", path(found.id, "derive"), wanted)).id;
}

/** The field for δ. */
export const riskOfDraw = () =>
  number("guarantee.delta", "Risk of a bad draw", 0.1, {
    term: "δ",
    min: 0.0001,
    max: 0.5,
    hint: "For the promise with high probability only.",
  });

/** Take a calibration away as a file. */
export const exported = async (id) => download(await getBlob(path(id, "export"), ADMIN), `${id}.calibration`);

/** Store a calibration file; the calibration. */
export function imported(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return getJson(`${BASE}/import`, { method: "POST", body: file, headers, ...ADMIN });
}

/** Ask, then make a calibration without one of the pairs; its id, or null. */
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

/** A query of what is set. */
function asked(fields) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value ?? false));
  return query.size ? `?${query}` : "";
}
