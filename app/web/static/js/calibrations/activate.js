// Which calibration is served from: what a switch changes is said before it is made.

import { sendJson } from "../lib/api.js";
import { confirmDialog } from "../lib/dialog.js";
import { level, percent } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { toast } from "../lib/toast.js";
import { detail, path, title } from "./service.js";
import { trustsNothing } from "./words.js";

const ADMIN = { kind: "admin" };

/** Ask, then serve from a calibration in the place of `present`; true if that was done. */
export async function activate(wanted, present, { back = false } = {}) {
  const [next, now] = await Promise.all([detail(wanted.id), present && detail(present.id)]);
  const sure = await confirmDialog({
    title: back ? `Back to ${title(wanted)}?` : `Serve from ${title(wanted)}?`,
    body: html`${changes(next, now)} ${trustsNothing(next)}
      <p>The next request of every gateway follows the switch. The other calibration stays; activating it again is the way back.</p>
      <p class="hint">${now ? html`From <code>${now.id}</code> to ` : "To "}<code>${next.id}</code>, for ${next.upscaler}.</p>`,
    confirm: back ? `Back to ${title(wanted)}` : "Activate",
  });
  if (!sure) return false;
  const done = await switched(wanted.id);
  if (!done) return false;
  toast(`${title(wanted)} is active now${now ? `; it replaces ${title(now)}` : ""}.`, { kind: "success" });
  return true;
}

/** What changes for users: trusted area at the α that counts, and the smallest α. */
function changes(next, now) {
  if (!now) return html`<p>Until now ${next.upscaler} has answered no request.</p>`;
  const alpha = next.default_alpha;
  const areas = [now, next].map(
    ({ thresholds }) => thresholds.find((row) => row.alpha === alpha)?.trusted_fraction,
  );
  const known = areas.every((area) => area !== undefined);
  const smallest = [now.min_alpha, next.min_alpha];
  const isWorse = (known && areas[1] < areas[0]) || smallest[1] > smallest[0];
  return html`<div class="callout ${isWorse ? "warn" : "good"}" id="changes">
    ${known ? html`<p>Trusted at ${level(alpha)}: ${percent(areas[0])} → ${percent(areas[1])}</p>` : nothing}
    <p>Smallest α: ${level(smallest[0])} → ${level(smallest[1])}</p>
    ${now.default_alpha === alpha ? nothing : html`<p>Default α: ${level(now.default_alpha)} → ${level(alpha)}</p>`}
  </div>`;
}

/** Switch; where the service refuses because the new one is worse, the person may insist. Null: not done. */
async function switched(id) {
  try {
    return await sendJson("POST", path(id, "activate"), undefined, ADMIN);
  } catch (error) {
    if (error.slug !== "conflict") throw error;
    const insists = await confirmDialog({
      title: "The service advises against it",
      body: html`<p class="callout warn">${error.message}</p>`,
      confirm: "Activate anyway",
      danger: true,
    });
    return insists ? sendJson("POST", path(id, "activate"), { force: true }, ADMIN) : null;
  }
}
