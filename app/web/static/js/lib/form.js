// Forms as documents.

/**
 * The filled fields of a form as a document; a name `part.field` leads into a part of it. Numbers are numbers, boxes
 * are true or false, and fields without a value are left out.
 *
 * @returns {any}
 */
export function documentOf(form) {
  const found = {};
  for (const { name, type, value = "", checked } of form.elements) {
    const text = value.trim();
    if (!name || !text || type === "radio") continue;
    const [field, part] = name.split(".").reverse();
    const place = part ? (found[part] ??= {}) : found;
    place[field] = type === "checkbox" ? checked : type === "number" ? Number(text) : text;
  }
  return found;
}
