// Provenance and history of a calibration.

import { time } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { facts, hint, items } from "../lib/widgets.js";
import { reasons } from "./job.js";
import * as service from "./service.js";
import { pipelineTerms, pipelineWords } from "./words.js";

const AUDIT_TAIL = 1000;
const MOST_ENTRIES = 20;

export function provenance(found) {
  const { provenance: origin } = found;
  return facts([
    ["Made", time(found.created_at)],
    ["By", origin.created_by],
    ["With", origin.software],
    origin.parent && ["From", html`<a href=${service.page(origin.parent)}>${origin.parent}</a>`],
    origin.note && ["Note", origin.note],
    ["Upscaler", found.upscaler],
    ["Exact model", html`<code title="fingerprint">${found.pipeline.fingerprint}</code>`],
    [
      "How it is asked",
      html`<span title=${pipelineTerms(found.pipeline)}>${pipelineWords(found.pipeline)}</span>`,
    ],
    ["Small versions", found.made_by ? `made from the originals: ${found.made_by}` : "were given"],
    ["Seed", String(found.seed)],
    origin.attributions.length > 0 && ["Images", attributions(origin.attributions)],
    found.skipped.length > 0 && ["Left out", reasons(found.skipped)],
  ]);
}

const attributions = (lines) =>
  html`<details><summary>${lines.length} attributions</summary>${items(lines)}</details>`;

/** The audit log of a calibration, the newest first. Throws ApiError. */
export async function audit(found, rows) {
  const all = await service.audit(AUDIT_TAIL);
  const mine = all.filter(({ facts }) => Object.values(facts).includes(found.id)).slice(0, MOST_ENTRIES);
  if (!mine.length) return hint("The audit log has no entry about it.");
  const nameOf = (id) => service.title(rows.find((row) => row.id === id) ?? { id });
  const line = ({ at, action, actor, facts }) =>
    html`<span class="hint">${time(at)}</span> ${sentence(found, action, facts, nameOf)} by ${actor}`;
  return items(mine.map(line), "audit");
}

function sentence(found, action, { calibration, previous, parent }, nameOf) {
  const verb = action.replace("calibration.", "").replace("_", " ");
  const isOwn = calibration === undefined || calibration === found.id;
  if (verb === "activate") {
    if (!isOwn) return html`<b>${nameOf(calibration)}</b> replaced this one`;
    return html`This one was <b>activated</b>${previous ? ` in place of ${nameOf(previous)}` : ""}`;
  }
  if (!isOwn) return html`<b>${nameOf(calibration)}</b> was made of this one (${verb})`;
  return html`This one: <b>${verb}</b>${parent && parent !== found.id ? ` of ${nameOf(parent)}` : nothing}`;
}
