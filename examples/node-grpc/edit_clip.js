// Edits a clip over gRPC alone: upload, prompt, start, another prompt midway, frames to the end.

import { createWriteStream } from "node:fs";
import { parseArgs } from "node:util";
import { finished } from "node:stream/promises";

import { Gateway, GatewayError } from "./gateway.js";

const USAGE = `Usage: node edit_clip.js CLIP [options]

  --prompt TEXT      what to make of it (default: a watercolour painting)
  --then TEXT        another prompt from the middle on (of a clip of 80 frames or more: a shorter one
                     is made before its middle is shown)
  --out FILE         where the edited video goes, H.264 (default: edited.h264)
  --address HOST     the gateway's gRPC (default: 127.0.0.1:50051)
  --model NAME       (default: sana-streaming)
  --seed NUMBER      the same seed gives the same video (default: 0)
  --key KEY          API key, where the gateway asks who calls (default: $SANA_GATEWAY_KEY)`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    prompt: { type: "string", default: "a watercolour painting" },
    then: { type: "string" },
    out: { type: "string", default: "edited.h264" },
    address: { type: "string", default: "127.0.0.1:50051" },
    model: { type: "string", default: "sana-streaming" },
    seed: { type: "string", default: "0" },
    key: { type: "string", default: process.env.SANA_GATEWAY_KEY ?? "" },
    help: { type: "boolean", default: false },
  },
});
const [clip] = positionals;
if (options.help || !clip) {
  console.log(USAGE);
  process.exit(options.help ? 0 : 2);
}

async function edit(gateway) {
  const session = await gateway.createSession(options.model, {
    onQueue: ({ position }) => console.log(`waiting: place ${position}`),
  });
  try {
    await session.command({ set_mode: { mode: "MODE_FILE" } });
    const video = await session.upload(clip);
    const { num_frames } = await session.setVideo(video);
    console.log(`${clip}: ${num_frames} frames`);
    await session.command({ set_seed: { seed: options.seed } });
    await session.command({ set_prompt: { prompt: options.prompt } });

    session.on("chunk_complete", ({ chunk_index, frames_emitted, active_prompt }) =>
      console.log(`chunk ${chunk_index}: ${frames_emitted} frames, "${active_prompt}"`),
    );
    const complete = session.next("generation_complete");
    const shown = save(session, num_frames);
    await session.command({ start: {} });
    await complete;
    console.log(`${options.out}: ${await shown} of ${num_frames} frames`);
  } finally {
    await session.close();
  }
}

/** Writes the frames to a file until the last has come; returns how many they were. */
async function save(session, total) {
  const file = createWriteStream(options.out);
  let frames = 0;
  for await (const { data, frame } of session.watch()) {
    file.write(data);
    frames += 1;
    if (options.then && frame === Math.floor(total / 2)) {
      await session.command({ set_prompt: { prompt: options.then } });
    }
    if (frame === total - 1) break;
  }
  file.end();
  await finished(file);
  return frames;
}

const gateway = await Gateway.connect(options.address, { apiKey: options.key });
try {
  await edit(gateway);
} catch (error) {
  if (!(error instanceof GatewayError)) throw error;
  const again = error.retryAfter ? `; try again in ${error.retryAfter} s` : "";
  console.error(`${error.reason}: ${error.message}${again}`);
  process.exitCode = 1;
} finally {
  gateway.close();
}
