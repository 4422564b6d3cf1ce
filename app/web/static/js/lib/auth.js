// Keys live in this tab's session storage only, and end with it.

import { h } from "./dom.js";
import { openDialog } from "./dialog.js";

const WORDS = {
  client: { label: "API key", hint: "Needed to upscale and to see results." },
  admin: {
    label: "Admin key",
    hint: "Needed for calibrations, labels and monitoring. Without an own setting, the first start of the service has written one to the file admin.key in its data folder.",
  },
};

let asking = null;

/** The key of a kind ("client" or "admin") or null; an admin key serves where a client key does. */
export function key(kind) {
  const own = sessionStorage.getItem(`trustscale.key.${kind}`);
  return own ?? (kind === "client" ? sessionStorage.getItem("trustscale.key.admin") : null);
}

/** Keep a key for this tab; null forgets it. Tells the page by a `keys` event on the document. */
export function setKey(kind, value) {
  const name = `trustscale.key.${kind}`;
  if (value) sessionStorage.setItem(name, value);
  else sessionStorage.removeItem(name);
  document.dispatchEvent(new CustomEvent("keys", { detail: { kind } }));
}

/** Headers that carry a key, if there is one. */
export function keyHeaders(kind) {
  const value = key(kind);
  return value ? { Authorization: `Bearer ${value}` } : {};
}

/**
 * Ask the person for a key; it is kept. Null if they would rather not. Requests that fail at the
 * same time share one dialog.
 */
export function askForKey(kind, reason = "") {
  asking ??= ask(kind, reason).finally(() => {
    asking = null;
  });
  return asking;
}

async function ask(kind, reason) {
  const { label, hint } = WORDS[kind];
  const input = h("input", {
    id: "key-input",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "key-hint",
  });
  const answer = await openDialog({
    title: `${label} needed`,
    body: [
      reason && h("p", { class: "callout warn" }, reason),
      h("label", { class: "field" }, h("span", {}, label), input),
      h("p", { class: "hint", id: "key-hint" }, hint, " It is kept until this tab is closed."),
    ],
    actions: [
      { label: "Cancel", value: null },
      { label: "Use this key", value: "use", primary: true },
    ],
  });
  const value = input.value.trim();
  if (answer !== "use" || !value) return null;
  setKey(kind, value);
  return value;
}

/** The dialog behind the button in the masthead: which keys are set, set and forget them. */
export async function manageKeys() {
  const inputs = Object.entries(WORDS).map(([kind, { label, hint }]) => {
    const value = sessionStorage.getItem(`trustscale.key.${kind}`) ?? "";
    const input = h("input", {
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "not set",
      value,
      dataset: { kind },
    });
    return h("label", { class: "field" }, h("span", {}, label), input, h("small", {}, hint));
  });
  const answer = await openDialog({
    title: "Keys",
    body: [
      h("p", { class: "hint" }, "Kept in this tab only; closing it forgets them."),
      ...inputs,
    ],
    actions: [
      { label: "Forget all", value: "forget" },
      { label: "Cancel", value: null },
      { label: "Save", value: "save", primary: true },
    ],
  });
  if (!answer) return;
  for (const label of inputs) {
    const input = label.querySelector("input");
    setKey(input.dataset.kind, answer === "save" ? input.value.trim() : null);
  }
}
