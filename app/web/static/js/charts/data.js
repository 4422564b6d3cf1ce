// The data behind a chart: looked up under the pointer, and as a table.

/** The index of the nearest x, among points in ascending order. */
export function nearest(points, x) {
  const above = firstAbove(points, x);
  if (above === 0) return 0;
  if (above === points.length) return above - 1;
  return x - points[above - 1].x <= points[above].x - x ? above - 1 : above;
}

/** The index of the first point with a larger x; the number of points if there is none. */
function firstAbove(points, x) {
  const found = points.findIndex((p) => p.x > x);
  return found < 0 ? points.length : found;
}

/** The point of a series at x, or null: steps hold their value up to the next point. */
export function pointAt({ points, kind }, x) {
  if (!points.length) return null;
  if (kind === "bars") return points.find((p) => p.x <= x && x < p.to) ?? null;
  if (kind === "step") return points[firstAbove(points, x) - 1] ?? null;
  return points[nearest(points, x)];
}

export function tabulate({ x, series }) {
  const ends = { y: "", low: ", lower", high: ", upper" };
  const columns = series.flatMap((one) => fieldsOf(one).map((key) => one.name + ends[key]));
  const rows = new Map();
  let place = 0;
  for (const one of series) {
    const keys = fieldsOf(one);
    for (const point of one.points) {
      if (!rows.has(point.x)) rows.set(point.x, Array(columns.length).fill(null));
      keys.forEach((key, k) => (rows.get(point.x)[place + k] = point[key]));
    }
    place += keys.length;
  }
  const sorted = [...rows].sort(([a], [b]) => a - b).map(([key, values]) => [key, ...values]);
  return { head: [x.label, ...columns], rows: sorted };
}

function fieldsOf({ points }) {
  if (points.length && !("y" in points[0])) return ["low", "high"];
  return points.some((p) => "low" in p) ? ["y", "low", "high"] : ["y"];
}
