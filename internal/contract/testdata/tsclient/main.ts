// A program with a generated client: it publishes an event and starts a dry run of a replay.
import createClient from "openapi-fetch";
import type { paths } from "./api";

const client = createClient<paths>({ baseUrl: process.argv[2], headers: { Authorization: `Bearer ${process.argv[3]}` } });

async function main() {
  const published = await client.POST("/v1/events", {
    headers: { "Content-Type": "application/cloudevents+json" },
    body: {
      specversion: "1.0", id: "ts-1", source: "//contract/test", type: "io.freshet.row.upsert.v1", subject: "packages/from-ts", partitionkey: "from-ts", sequence: "7",
      data: { package: "from-ts", version: "1.0", architecture: "all" },
    } as never,
  });
  if (published.error) throw new Error(`publish: ${JSON.stringify(published.error)}`);
  const replay = await client.POST("/v1/replays", { body: { dataset: "packages", dry_run: true, reason: "a generated client" } });
  if (replay.error) throw new Error(`start a replay: ${JSON.stringify(replay.error)}`);
  console.log(replay.data.id);
}

main().catch((e) => { console.error(e); process.exit(1); });
