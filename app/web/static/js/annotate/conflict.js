// Two people have drawn the same label: the person chooses.

import { openDialog } from "../lib/dialog.js";
import { count } from "../lib/format.js";
import { html } from "../lib/html.js";
import { tinted } from "./view.js";

/** The marks of the choice, or null to decide later. */
export async function askWhich(item, theirs) {
  const { mask, name } = item;
  const both = mask.data.map((mark, k) => mark | theirs.marks[k]);
  const answer = await openDialog({
    title: "Somebody else has labelled this pair",
    body: html`<p><strong>${name}</strong>: version ${theirs.version} was saved after you began. Nothing of yours is lost yet.</p>
      <div class="versions">
        ${preview(item, mask.data, "Yours")} ${preview(item, theirs.marks, "Theirs")} ${preview(item, both, "Both together")}
      </div>`,
    actions: [
      { label: "Decide later", value: null },
      { label: "Take theirs", value: "theirs" },
      { label: "Both together", value: "both" },
      { label: "Keep mine", value: "mine", primary: true },
    ],
    wide: true,
  });
  if (answer === null) return null;
  return { mine: mask.data.slice(), theirs: theirs.marks, both }[answer];
}

function preview({ prediction, mask: { width, height } }, marks, words) {
  const marked = marks.reduce((sum, mark) => sum + mark, 0);
  const ariaLabel = `${words}: ${count(marked)} pixels marked`;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height, role: "img", ariaLabel });
  const context = canvas.getContext("2d");
  const tint = new OffscreenCanvas(width, height);
  tint.getContext("2d").putImageData(tinted(marks, width), 0, 0);
  context.drawImage(prediction, 0, 0);
  context.drawImage(tint, 0, 0);
  return html`<figure>${canvas}<figcaption><b>${words}</b> · ${count(marked)} pixels marked</figcaption></figure>`;
}
