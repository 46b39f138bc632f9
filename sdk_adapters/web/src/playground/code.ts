/**
 * Programs that do again what was just done. Pure.
 *
 * Each language says every deed in its client's words: `@sana-gateway/client` (docs/typescript.md),
 * `sana_gateway` (sdk_adapters/python) and `gateway.js` (examples/node-grpc). What lay more than a
 * second apart while the shot ran is waited for.
 */
import type { Deed, Done } from "./deeds";

export type Language = "javascript" | "python" | "node";

export const LANGUAGES: Readonly<Record<Language, string>> = {
  javascript: "JavaScript",
  python: "Python",
  node: "Node gRPC",
};

/** Where the programs find the service. */
export interface Place {
  /** The URL of HTTP, for example `http://127.0.0.1:8080`. */
  readonly url: string;
  /** The address of gRPC, `host:port`. */
  readonly grpc: string;
  /** Whether the service asks who calls. */
  readonly authenticated: boolean;
}

/** Waits below this are left out. */
const LEAST_WAIT_MS = 1_000;
/** How long a program looks at the picture after the last deed. */
const LOOK_S = 10;

/** Returns a program; before anything was done, one that edits a camera with a prompt. */
export function program(language: Language, done: readonly Done[], place: Place): string {
  const deeds = done.length > 1 ? done : EXAMPLE;
  const model = deeds.find((deed) => deed.kind === "connect")?.model ?? "sana-streaming";
  const steps = deeds.filter(({ kind }) => kind !== "connect");
  return `${WRITERS[language]({ model, steps, place })}\n`;
}

const EXAMPLE: readonly Done[] = [
  { kind: "connect", model: "sana-streaming", at: 0 },
  { kind: "camera", at: 0 },
  { kind: "prompt", prompt: "Van Gogh oil painting, swirling brushstrokes", transitionChunks: 0, at: 0 },
  { kind: "mode", mode: "live", at: 0 },
  { kind: "start", at: 0 },
];

interface Plan {
  readonly model: string;
  readonly steps: readonly Done[];
  readonly place: Place;
}

type Say<Kind extends Deed["kind"]> = (deed: Extract<Done, { kind: Kind }>) => readonly string[];
/** What each deed is in a language. */
type Words = { readonly [Kind in Deed["kind"]]?: Say<Kind> };

/** Returns the lines of all deeds, with the waits between them. */
function lines(steps: readonly Done[], words: Words, wait: (seconds: number) => string): string[] {
  const said: string[] = [];
  let [before, running] = [steps[0]?.at ?? 0, false];
  for (const step of steps) {
    if (running && step.at - before >= LEAST_WAIT_MS) said.push(wait(Math.round((step.at - before) / 100) / 10));
    said.push(...((words[step.kind] as Say<typeof step.kind> | undefined)?.(step as never) ?? []));
    running = step.kind === "start" || (running && step.kind !== "reset");
    before = step.at;
  }
  return said;
}

const has = (steps: readonly Done[], ...kinds: Deed["kind"][]) => steps.some(({ kind }) => kinds.includes(kind));
const isLive = (steps: readonly Done[]) => has(steps, "camera", "screen");
/** JSON's strings are also those of JavaScript and Python. */
const quoted = (text: string) => JSON.stringify(text);
const indented = (said: readonly string[], by: string) => said.map((each) => (each ? by + each : each));
/** A name for a comment: no line breaks, which would end it. */
const named = (name: string) => name.replace(/[\p{C}\u2028\u2029]/gu, " ").slice(0, 80);

// -- JavaScript: a page

function javascript({ model, steps, place }: Plan): string {
  const words: Words = {
    camera: () => ["const camera = await navigator.mediaDevices.getUserMedia({ video: true });", PUBLISH("camera")],
    screen: () => ["const screen = await navigator.mediaDevices.getDisplayMedia({ video: true });", PUBLISH("screen")],
    clip: ({ name }) => [
      `const file = await chosenFile(); // ${named(name)}`,
      "await model.setVideo(await model.uploadFile(file));",
    ],
    mode: ({ mode }) => [`await model.setMode(${quoted(mode)});`],
    seed: ({ seed }) => [`await model.setSeed(${seed});`],
    prompt: ({ prompt, transitionChunks: chunks }) => [
      `await model.setPrompt(${quoted(prompt)}${chunks ? `, { transitionChunks: ${chunks} }` : ""});`,
    ],
    start: () => ["await model.start();"],
    pause: () => ["await model.pause();"],
    resume: () => ["await model.resume();"],
    reset: () => ["await model.reset();"],
    fork: ({ prompts }) => [`await beside(${JSON.stringify(prompts)});`],
  };
  const said = unique(lines(steps, words, (seconds) => `await wait(${Math.round(seconds * 1000)});`));
  const options = [`apiUrl: ${quoted(place.url)}`, `model: ${quoted(model)}`, ...(place.authenticated ? ["getToken"] : [])];
  return [
    'import { SanaStreamingModel } from "@sana-gateway/client";',
    "",
    "const model = new SanaStreamingModel();",
    'model.attach(document.querySelector("video"));',
    'model.on("chunkComplete", ({ chunkIndex, activePrompt }) => console.log(chunkIndex, activePrompt));',
    'model.on("commandError", ({ command, reason }) => console.error(command, reason));',
    "",
    `await model.connect({ ${options.join(", ")} });`,
    ...said,
    ...(said.some((each) => each.startsWith("await wait(")) ? ["", WAIT] : []),
    ...(place.authenticated ? ["", ...GET_TOKEN] : []),
    ...(has(steps, "clip") ? ["", ...CHOSEN_FILE] : []),
    ...(has(steps, "fork") ? ["", ...beside(isLive(steps), options)] : []),
  ].join("\n");
}

const PUBLISH = (name: string) => `await model.publishCamera(${name});`;
const WAIT = "function wait(ms) {\n  return new Promise((resolve) => setTimeout(resolve, ms));\n}";
const GET_TOKEN = [
  "/** Your server has the API key, and answers with a token that it gets from POST /tokens. */",
  "async function getToken() {",
  '  return (await fetch("/my-server/token")).text();',
  "}",
];
const CHOSEN_FILE = [
  '/** Waits until a file is chosen in <input type="file">. */',
  "function chosenFile() {",
  "  const input = document.querySelector(\"input[type=file]\");",
  '  return new Promise((resolve) => input.addEventListener("change", () => resolve(input.files[0]), { once: true }));',
  "}",
];
const beside = (live: boolean, options: readonly string[]) => [
  "/** Copies the shot as it is now, and shows each copy with a prompt of its own. */",
  "async function beside(prompts) {",
  "  const ids = await model.fork(prompts.length);",
  "  for (const [index, sessionId] of ids.entries()) {",
  "    const copy = new SanaStreamingModel();",
  '    copy.attach(document.body.appendChild(document.createElement("video")));',
  `    await copy.connect({ ${options.join(", ")}, sessionId, owned: true });`,
  ...(live ? ["    await copy.publishCamera(model.cameraTrack);"] : []),
  "    await copy.setPrompt(prompts[index]);",
  "  }",
  "}",
];

/** A name can be declared once: what declares it again assigns to another. */
function unique(said: readonly string[]): string[] {
  const seen = new Map<string, number>();
  let current = new Map<string, string>();
  return said.map((each) => {
    const declared = /^const (\w+) = /.exec(each)?.[1];
    if (declared !== undefined) {
      const count = (seen.get(declared) ?? 0) + 1;
      seen.set(declared, count);
      if (count > 1) current = new Map(current).set(declared, `${declared}${count}`);
      const name = current.get(declared);
      return name === undefined ? each : each.replace(declared, name);
    }
    const used = /^await model\.(?:publishCamera\((\w+)\)|setVideo\(await model\.uploadFile\((\w+)\)\))/.exec(each);
    const name = used?.[1] ?? used?.[2];
    const other = name === undefined ? undefined : current.get(name);
    return other === undefined || name === undefined ? each : each.replace(`(${name})`, `(${other})`);
  });
}

// -- Python

function python({ model, steps, place }: Plan): string {
  const [live, copied] = [isLive(steps), has(steps, "fork")];
  let filming = false;
  const film = () => (filming ? [] : ((filming = true), ["tasks += film(session)"]));
  const words: Words = {
    camera: film,
    screen: film,
    clip: ({ name }) => [`await session.set_video(await session.upload("clip.mp4"))  # ${named(name)}`],
    mode: ({ mode }) => [`await session.set_mode(${quoted(mode)})`],
    seed: ({ seed }) => [`await session.set_seed(${seed})`],
    prompt: ({ prompt, transitionChunks: chunks }) => [
      `await session.set_prompt(${quoted(prompt)}${chunks ? `, transition_chunks=${chunks}` : ""})`,
    ],
    start: () => ["await session.start()"],
    pause: () => ["await session.pause()"],
    resume: () => ["await session.resume()"],
    reset: () => ["await session.reset()"],
    fork: ({ prompts }) => [
      `for copy, prompt in zip(await session.fork(${prompts.length}), ${JSON.stringify(prompts)}):`,
      "    await copies.enter_async_context(copy)",
      "    await copy.ready()",
      `    tasks += [asyncio.create_task(watch(copy))${live ? ", *film(copy)" : ""}]`,
      "    await copy.set_prompt(prompt)",
    ],
  };
  const said = lines(steps, words, (seconds) => `await asyncio.sleep(${seconds})`);
  const key = place.authenticated ? ', api_key=os.environ["SANA_GATEWAY_KEY"]' : "";
  const opened = [
    `Client(${quoted(place.grpc)}${key}) as client,`,
    `await client.create_session(${quoted(model)}) as session,`,
    ...(copied ? ["AsyncExitStack() as copies,"] : []),
  ];
  return [
    "import asyncio",
    ...(place.authenticated ? ["import os"] : []),
    ...(copied ? ["from contextlib import AsyncExitStack"] : []),
    "",
    "from sana_gateway import Client, Session",
    ...(live ? ["from sana_gateway.camera import Camera, play"] : []),
    "",
    "",
    "async def watch(session: Session) -> None:",
    "    async for picture in session.pictures():",
    "        print(picture.run, picture.chunk, picture.frame, picture.rgb.shape)",
    "",
    "",
    ...(live ? FILM : []),
    "async def main() -> None:",
    "    async with (",
    ...indented(opened, "        "),
    "    ):",
    "        tasks = [asyncio.create_task(watch(session))]",
    ...indented(said, "        "),
    `        await asyncio.sleep(${LOOK_S})`,
    "        for task in tasks:",
    "            task.cancel()",
    "",
    "",
    "asyncio.run(main())",
  ].join("\n");
}

const FILM = [
  "def film(session: Session) -> list[asyncio.Task[None]]:",
  '    """Publishes a file as if it were a camera; `camera.push(rgb)` shows pictures of your own."""',
  "    camera = Camera()",
  '    filming = session.publish_camera(camera), play(camera, "camera.mp4", loop=True)',
  "    return [asyncio.create_task(each) for each in filming]",
  "",
  "",
];

// -- Node over gRPC, beside examples/node-grpc/gateway.js

function node({ model, steps, place }: Plan): string {
  const live = isLive(steps);
  let publishing = false;
  const once = () => (publishing ? [] : ((publishing = true), ["cameras.push(publish(session));"]));
  const command = (name: string, said = "") => [`await session.command({ ${name}: {${said && ` ${said} `}} });`];
  const words: Words = {
    camera: once,
    screen: once,
    clip: ({ name }) => [`await session.setVideo(await session.upload("clip.mp4")); // ${named(name)}`],
    mode: ({ mode }) => command("set_mode", `mode: "MODE_${mode.toUpperCase()}"`),
    seed: ({ seed }) => command("set_seed", `seed: "${seed}"`),
    prompt: ({ prompt, transitionChunks: chunks }) =>
      command("set_prompt", `prompt: ${quoted(prompt)}${chunks ? `, transition_chunks: ${chunks}` : ""}`),
    start: () => command("start"),
    pause: () => command("pause"),
    resume: () => command("resume"),
    reset: () => command("reset"),
    fork: ({ prompts }) => [`await beside(${JSON.stringify(prompts)});`],
  };
  const said = lines(steps, words, (seconds) => `await wait(${Math.round(seconds * 1000)});`);
  const key = place.authenticated ? ", { apiKey: process.env.SANA_GATEWAY_KEY }" : "";
  const copied = has(steps, "fork");
  return [
    ...(live ? ['import { spawn } from "node:child_process";'] : []),
    'import { setTimeout as wait } from "node:timers/promises";',
    `import { Gateway${copied ? ", Session" : ""} } from "./gateway.js"; // examples/node-grpc`,
    "",
    `const gateway = await Gateway.connect(${quoted(place.grpc)}${key});`,
    `const session = await gateway.createSession(${quoted(model)});`,
    'session.on("chunk_complete", ({ chunk_index, active_prompt }) => console.log(chunk_index, active_prompt));',
    "",
    ...(live ? ["const cameras = [];"] : []),
    ...(copied ? ["const copies = [];"] : []),
    "watch(session);",
    ...said,
    `await wait(${LOOK_S * 1000});`,
    ...(live ? ["for (const camera of cameras) camera.kill();"] : []),
    ...(copied ? ["for (const copy of copies) await copy.close();"] : []),
    "await session.close();",
    "gateway.close();",
    "",
    "async function watch(watched) {",
    "  try {",
    "    for await (const frame of watched.watch()) console.log(frame.run, frame.frame, frame.data.length);",
    "  } catch (error) {",
    "    console.log(error.message); // also when the session ends",
    "  }",
    "}",
    ...(copied ? ["", ...besideNode(live)] : []),
    ...(live ? ["", ...PUBLISH_NODE] : []),
  ].join("\n");
}

const besideNode = (live: boolean) => [
  "/** Copies the session as it is now, and gives each copy a prompt of its own. */",
  "async function beside(prompts) {",
  "  const asked = { session_id: session.id, copies: prompts.length };",
  '  const { sessions } = await gateway.call("ForkSession", asked);',
  "  for (const [index, { session_id }] of sessions.entries()) {",
  "    const copy = new Session(gateway, session_id);",
  "    copies.push(copy);",
  "    await copy.ready;",
  ...(live ? ["    cameras.push(publish(copy));"] : []),
  "    await copy.command({ set_prompt: { prompt: prompts[index] } });",
  "    watch(copy);",
  "  }",
  "}",
];

const PUBLISH_NODE = [
  "/** Publishes what FFmpeg encodes: here a file in its own time, else for example -f v4l2 -i /dev/video0. */",
  "function publish(published) {",
  "  const media = gateway.stub.Media(gateway.metadata);",
  '  media.on("data", () => {}).on("error", () => {});',
  '  media.write({ start: { session_id: published.id, publish: true, publish_codec: "CODEC_H264" } });',
  '  const input = ["-re", "-stream_loop", "-1", "-i", "camera.mp4"];',
  '  const codec = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", "24", "-bf", "0"];',
  '  const output = ["-an", "-pix_fmt", "yuv420p", "-bsf:v", "h264_metadata=aud=insert", "-f", "h264", "-"];',
  '  const ffmpeg = spawn("ffmpeg", ["-v", "error", ...input, ...codec, ...output]);',
  "  const mark = Buffer.from([0, 0, 0, 1, 9]); // an access unit delimiter begins every frame",
  "  let waiting = Buffer.alloc(0);",
  '  ffmpeg.stdout.on("data", (data) => {',
  "    waiting = Buffer.concat([waiting, data]);",
  "    for (let end; (end = waiting.indexOf(mark, mark.length)) > 0; waiting = waiting.subarray(end)) {",
  "      const frame = waiting.subarray(0, end);",
  "      const keyframe = frame.includes(Buffer.from([0, 0, 1, 0x65]));",
  "      media.write({ camera: { data: frame, keyframe, timestamp_us: Math.round(performance.now() * 1000) } });",
  "    }",
  "  });",
  "  return ffmpeg;",
  "}",
];

const WRITERS: Readonly<Record<Language, (plan: Plan) => string>> = { javascript, python, node };
