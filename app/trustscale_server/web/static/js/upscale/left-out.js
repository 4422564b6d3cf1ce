// Faces and letters of a result: no promise about colours says who somebody is, or what is written.

import { plural } from "../lib/format.js";

/** @typedef {{kind: "face" | "text", box: number[][], why: string}} LeftOut box: corners, in order around it */

/** What was left out of a result's mask; nothing in answers of before. @returns {LeftOut[]} */
export const leftOutOf = (result) => result?.left_out ?? [];

/** In words, such as "2 faces and 1 piece of text"; empty if nothing was left out. */
export function counted(things) {
  const of = (wanted) => things.filter(({ kind }) => kind === wanted).length;
  const pieces = of("text");
  const text = pieces && `${pieces} ${pieces === 1 ? "piece" : "pieces"} of text`;
  return [of("face") && plural(of("face"), "face"), text].filter(Boolean).join(" and ");
}

/** The first whose box holds a place; corners go around it either way. @param {LeftOut[]} things */
export const thingAt = (things, { x, y }) => things.find(({ box }) => holds(box, x + 0.5, y + 0.5));

function holds(box, x, y) {
  const sides = box.map(([x0, y0], k) => {
    const [x1, y1] = box[(k + 1) % box.length];
    return (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0);
  });
  return sides.every((side) => side >= 0) || sides.every((side) => side <= 0);
}
