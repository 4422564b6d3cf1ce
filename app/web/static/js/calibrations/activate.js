// Which calibration is served from: what a switch changes is said before it is made.

import { sendJson } from "../lib/api.js";
import { confirmDialog } from "../lib/dialog.js";
import { level, percent } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { told } from "../lib/toast.js";
import { detail, path, title } from "./service.js";
import { trustsNothing } from "./words.js";

/** Ask, then serve from a calibration in the place of `present`; true if that was done. */
export async function activate(wanted, present, { back = false } = {}) {
  const next = await detail(wanted.id);
  const verb = back ? "Back to" : "Serve from";
  const sure = await confirmDialog({
    title: `${verb} ${title(wanted)}?`,
    body: html`${changed(next)} ${trustsNothing(next)}
      <p>The next request of every gateway follows the switch. The other calibration stays; activating it again is the way back.</p>
      <p class="hint">${present ? html`From <code>${present.id}</code> to ` : "To "}<code>${next.id}</code>, for ${next.upscaler}.</p>`,
    confirm: back ? `Back to ${title(wanted)}` : "Activate",
  });
  if (!sure || !(await switched(wanted.id))) return false;
  told(`${title(wanted)} is active now${present ? `; it replaces ${title(present)}` : ""}.`);
  return true;
}

/** What changes for users, as the service has it; amber where a figure is worse. */
function changed({ upscaler, changes }) {
  const { alpha, trusted_area: area, min_alpha: least, default_alpha: own } = changes;
  if (least.before === null) return html`<p>Until now ${upscaler} has answered no request.</p>`;
  const isWorse = area.after < area.before || least.after > least.before;
  const line = (name, { before, after }, write) => html`<p>${name}: ${write(before)} → ${write(after)}</p>`;
  return html`<div class="callout ${isWorse ? "warn" : "good"}" id="changes">
    ${line(`Trusted at ${level(alpha)}`, area, percent)} ${line("Smallest α", least, level)}
    ${own.before === own.after ? nothing : line("Default α", own, level)}
  </div>`;
}

/** Switch; where the service refuses because the new one is worse, the person may insist. Null: not done. */
async function switched(id) {
  try {
    return await sendJson("POST", path(id, "activate"));
  } catch (error) {
    if (error.slug !== "conflict") throw error;
    const insists = await confirmDialog({
      title: "The service advises against it",
      body: html`<p class="callout warn">${error.message}</p>`,
      confirm: "Activate anyway",
      danger: true,
    });
    return insists ? sendJson("POST", path(id, "activate"), { force: true }) : null;
  }
}
