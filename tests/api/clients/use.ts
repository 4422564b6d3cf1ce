// What a user of generated TypeScript types does: upload, poll, calibrate. URL and key are given.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Job = components["schemas"]["JobOut"];

const [url, key, image, archive] = process.argv.slice(2) as [string, string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

/** Files have the type string in a document; they are sent as blobs. */
const upload = (name: string) => new Blob([readFileSync(name)]) as unknown as string;

function form(body: object = {}): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(body)) {
    if (value instanceof Blob) data.set(name, value, "upload");
    else data.set(name, String(value));
  }
  return data;
}

async function ended(job: Job): Promise<Job> {
  while (job.state === "queued" || job.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, 50));
    const params = { path: { job_id: job.id } };
    job = (await client.GET("/v1/jobs/{job_id}", { params })).data!;
  }
  return job;
}

function check(fact: boolean, what: unknown): asserts fact {
  if (!fact) throw new Error(JSON.stringify(what));
}

const config = JSON.stringify({ samples: 4, default_alpha: 0.3, degradation: {} });
const created = await client.POST("/v1/admin/calibrations", {
  body: { archive: upload(archive), config },
  bodySerializer: form,
});
check(created.data !== undefined && "state" in created.data, created);
const job = await ended(created.data);
check(job.state === "succeeded", job);
const params = { path: { calibration_id: job.result!.split("/").at(-1)! } };
const { data: made } = await client.GET("/v1/admin/calibrations/{calibration_id}", { params });
check(made !== undefined && "pipeline" in made && made.n === 12, made);
await client.POST("/v1/admin/calibrations/{calibration_id}/activate", { params });

const { data: result } = await client.POST("/v1/upscale", {
  body: { image: upload(image), alpha: 0.3 },
  bodySerializer: form,
});
check(typeof result === "object" && "guarantee" in result, result);
check(result.calibration === made.id && result.guarantee.alpha === 0.3, result);
const { error } = await client.POST("/v1/upscale", {
  body: { image: upload(image), alpha: -1 },
  bodySerializer: form,
});
check(error?.type === "/problems/bad-alpha", error);
