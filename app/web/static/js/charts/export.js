// A chart as a file of its own: what style sheets say is written into the drawing.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linejoin",
  "paint-order",
  "font-family",
  "font-size",
  "font-weight",
];

/** The text of an SVG file that looks as the drawing does now, on the paper of the page. */
export function drawingOf(root, title) {
  const copy = root.cloneNode(true);
  const sources = root.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((element, k) => {
    const style = getComputedStyle(sources[k]);
    for (const name of PROPERTIES) element.setAttribute(name, style.getPropertyValue(name));
    element.removeAttribute("class");
  });
  copy.querySelector(".chart-cursor")?.remove();
  const { width, height } = root.viewBox.baseVal;
  const fill = getComputedStyle(root).backgroundColor;
  const caption = document.createElementNS(SVG, "title");
  caption.textContent = title;
  const ground = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ width, height, fill }))
    ground.setAttribute(name, String(value));
  copy.prepend(caption, ground);
  for (const name of ["tabindex", "aria-label", "class"]) copy.removeAttribute(name);
  return new XMLSerializer().serializeToString(copy);
}
