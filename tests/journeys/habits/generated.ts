// Uses the types that openapi-typescript has generated. Arguments: the server's URL, a JPEG file.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [, , baseUrl, file] = process.argv;
const photo = readFileSync(file!);
const client = createClient<paths>({ baseUrl: baseUrl! });

type Detected = components["schemas"]["DetectResult"];
type Job = components["schemas"]["Job"];

const { data, error } = await client.POST("/v1/detect", {
  params: { header: { Prefer: "wait=60" } },
  body: { image: photo.toString("base64"), mark: "none", max_faces: 1 },
});
if (error !== undefined || data.result === null) throw new Error(JSON.stringify(error ?? data));
const result: Detected = data.result;

// `operation` tells the result's type.
function faces(job: Job): number {
  return job.operation === "detect" && job.result !== null ? job.result.faces.length : 0;
}

const again = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: data.id } } });
const refused = await client.POST("/v1/detect", { body: { image: "AAAA" } });
const problem: components["schemas"]["ProblemShape"] | undefined = refused.error;
const event: components["schemas"]["EventShape"]["type"] = "job.succeeded";
console.log(JSON.stringify({
  x: result.faces[0]!.landmarks.left_eye.x, faces: faces(again.data!), refused: problem?.type, event,
}));
