// What can be chosen for a calibration, as the service knows it.

import { getJson } from "../lib/api.js";

/** @type {{metrics: any[], estimators: any[], usual_kinds: number}} */
let options = { metrics: [], estimators: [], usual_kinds: 1 };

/** Ask for the options once; the words of all views rest on them. */
export async function load() {
  if (!options.metrics.length) options = await getJson("/v1/admin/options", { kind: "admin" });
}

/** All metrics, the default first. */
export const metrics = () => options.metrics;

/** All estimators of σ, the default first. */
export const estimators = () => options.estimators;

/** An estimator by its name; undefined where the service has none such. */
export const estimatorOf = (name) => options.estimators.find((row) => row.estimator === name);

/** A metric by its settings, or by its name in lists; undefined where the service has none such. */
export const metricOf = (name, labels) =>
  options.metrics.find((row) =>
    labels === undefined ? row.listed === name : row.metric === name && row.labels === labels,
  );

/** As how many kinds of upload each original is measured, unless it is said how its small version is made. */
export const usualKinds = () => options.usual_kinds;
