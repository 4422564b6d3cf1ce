// Activation: the dialog names every change before it is made.

import { sendJson } from "../lib/api.js";
import { CANCEL, confirmDialog, openDialog } from "../lib/dialog.js";
import { documentOf } from "../lib/dom.js";
import { level, percent, size } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { toastSuccess } from "../lib/toast.js";
import { check } from "../lib/widgets.js";
import { detail, path, title, upscalers } from "./service.js";
import { trustsNothing } from "./words.js";

const ALL = "*"; // the class of a calibration that sorts uploads into none

/** Ask, then activate a calibration before the others, or alone; true if that was done. */
export async function activate(wanted, present, { back = false } = {}) {
  const [next, listed] = await Promise.all([detail(wanted.id), upscalers()]);
  const active = listed.find(({ name }) => name === next.upscaler)?.calibrations ?? [];
  const others = await Promise.all(active.filter(({ id }) => id !== next.id).map(({ id }) => detail(id)));
  const verb = back ? "Back to" : "Serve from";
  const chosen = await openDialog({
    title: `${verb} ${title(wanted)}?`,
    body: html`${changed(next)} ${trustsNothing(next)} ${coverage(next, others, active)}
      <p>The next request of every gateway follows the switch. No calibration is deleted; activating another one again is the way back.</p>
      ${others.length ? check("only", `Only this one: ${others.map(title).join(", ")} no longer stay behind it`) : nothing}
      <p class="hint">${present ? html`From <code>${present.id}</code> to ` : "To "}<code>${next.id}</code>, for ${next.upscaler}.</p>`,
    actions: [
      CANCEL,
      { label: back ? `Back to ${title(wanted)}` : "Activate", value: documentOf, primary: true },
    ],
  });
  const done = chosen && (await switched(wanted.id, chosen.only ? { only: true } : undefined));
  if (!done) return false;
  toastSuccess(`${title(wanted)} is active now${present ? `; it replaces ${title(present)}` : ""}.`);
  return true;
}

/** Changes for users; amber where a figure is worse. */
function changed({ upscaler, changes }) {
  const { alpha, trusted_area: area, min_alpha: least, default_alpha: own } = changes;
  if (least.before === null) return html`<p>Until now ${upscaler} has answered no request.</p>`;
  const isWorse = area.after < area.before || least.after > least.before;
  const line = (name, { before, after }, write) => html`<p>${name}: ${write(before)} → ${write(after)}</p>`;
  return html`<div class="callout ${isWorse ? "warn" : "good"}" id="changes">
    ${line(`Trusted at an error of ${level(alpha)}`, area, percent)} ${line("Smallest error", least, level)}
    ${own.before === own.after ? nothing : line("Accepted error", own, level)}
  </div>`;
}

/** Kinds of upload and sizes that are gained, and those that only the others answer. */
export function coverage(next, others, active) {
  const titles = new Map(
    [next, ...others].flatMap(({ classes }) => classes.map((one) => [one.name, one.title])),
  );
  const named = (names) =>
    names.map((name) => (name === ALL ? "any" : (titles.get(name) ?? name))).join("; ");
  const own = next.classes.length ? next.classes.map(({ name }) => name) : [ALL];
  const before = [...new Set(active.flatMap(({ classes }) => classes))];
  const less = (all, some) => all.filter((one) => !some.includes(one));
  const sizesOf = (all) => [...new Set(all.flatMap(({ sizes }) => sizes.map((one) => size(...one))))];
  const [ownSizes, otherSizes] = [sizesOf([next]), sizesOf(others)];
  const line = (words, all) => (all.length ? html`<p>${words}: ${named(all)}.</p>` : nothing);
  return html`<div class="stack" id="coverage">
    ${line("Kinds of upload that it adds", less(own, before))}
    ${line("Kinds that only the others answer, while they stay active", less(before, own))}
    <p>Sizes of its pictures: ${ownSizes.join(", ")}.</p>
    ${line("Sizes that only the others have", less(otherSizes, ownSizes))}
    ${others.length ? html`<p>It answers first, then ${others.map(title).join(", then ")}.</p>` : nothing}
  </div>`;
}

/** Switch; if the service refuses because the new one is worse, the person may insist. Null: not done. */
async function switched(id, asked) {
  try {
    return await sendJson("POST", path(id, "activate"), asked);
  } catch (error) {
    if (error.slug !== "conflict") throw error;
    const insists = await confirmDialog({
      title: "The service advises against it",
      body: html`<p class="callout warn">${error.message}</p>`,
      confirm: "Activate anyway",
      danger: true,
    });
    return insists ? sendJson("POST", path(id, "activate"), { ...asked, force: true }) : null;
  }
}
