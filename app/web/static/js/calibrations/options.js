// What can be chosen for a calibration, as the service knows it.

import { ADMIN, getJson } from "../lib/api.js";

/**
 * metrics and estimators of σ, the default first; as how many kinds of upload each original is measured,
 * unless it is said how its small version is made.
 *
 * @type {{metrics: any[], estimators: any[], usual_kinds: number}}
 */
export const options = { metrics: [], estimators: [], usual_kinds: 1 };

/** Ask for the options once; the words of all views rest on them. */
export async function load() {
  if (!options.metrics.length) Object.assign(options, await getJson("/v1/admin/options", ADMIN));
}

/** An estimator by its name; undefined where the service has none such. */
export const estimatorOf = (name) => options.estimators.find((row) => row.estimator === name);

/** A metric by its settings, or by its name in lists; undefined where the service has none such. */
export const metricOf = (name, labels) =>
  options.metrics.find((row) =>
    labels === undefined ? row.listed === name : row.metric === name && row.labels === labels,
  );
