/** The programs that do again what was done. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LANGUAGES, program, type Language } from "../../src/playground/code";
import { did, isRunning, MOST_DEEDS, type Deed, type Done } from "../../src/playground/deeds";

const PLACE = { url: "http://127.0.0.1:8080", grpc: "127.0.0.1:50051", authenticated: false };
const CONNECT: Deed = { kind: "connect", model: "painter" };
const START: Deed = { kind: "start" };
const prompt = (text: string, transitionChunks = 0): Deed => ({ kind: "prompt", prompt: text, transitionChunks });

/** Deeds, one every two seconds. */
const deeds = (...all: Deed[]) => all.reduce<readonly Done[]>((done, deed, index) => did(done, { ...deed, at: 2_000 * index }), []);

const NASTY = 'a "quoted" \\ back\\slash\n#{x} ${y} `z` \u2028 \u0000 *//* \'\'\' ünï 🎨';
const STORIES: Record<string, readonly Done[]> = {
  nothing: [],
  camera: deeds(CONNECT, { kind: "camera" }, prompt("oil"), { kind: "mode", mode: "live" }, START, prompt("snow", 4), { kind: "pause" }, { kind: "resume" }),
  clip: deeds(CONNECT, { kind: "clip", name: "a\n'''b.mp4" }, { kind: "seed", seed: 7 }, prompt("oil"), { kind: "mode", mode: "file" }, START, { kind: "reset" }),
  screens: deeds(CONNECT, { kind: "screen" }, prompt("oil"), START, { kind: "screen" }, { kind: "camera" }, { kind: "camera" }),
  clips: deeds(CONNECT, { kind: "clip", name: "a" }, prompt("a"), START, { kind: "reset" }, { kind: "clip", name: "b" }, prompt("b"), START),
  fork: deeds(CONNECT, { kind: "camera" }, prompt("oil"), START, { kind: "fork", prompts: ["one", NASTY] }),
  nasty: deeds(CONNECT, { kind: "clip", name: NASTY }, prompt(NASTY), START),
};
const ALL = Object.keys(LANGUAGES) as Language[];
const CASES = Object.keys(STORIES).flatMap((story) =>
  ALL.flatMap((language) => [true, false].map((authenticated) => ({ story, language, authenticated }))),
);

let folder = "";
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "sana-code-"))));
afterAll(() => rmSync(folder, { recursive: true }));

describe("programs", () => {
  it("are ones that their languages read", () => {
    const python: string[] = [];
    for (const { story, language, authenticated } of CASES) {
      const code = program(language, STORIES[story] ?? [], { ...PLACE, authenticated });
      const file = join(folder, `${story}-${authenticated}.${language === "python" ? "py" : `${language}.mjs`}`);
      writeFileSync(file, code);
      if (language === "python") python.push(file);
    }
    const files = CASES.filter(({ language }) => language !== "python");
    // A module is parsed as it is imported, before its own imports are looked for.
    const check = `import { readFileSync } from "node:fs"; import { SourceTextModule } from "node:vm";
      for (const file of process.argv.slice(1)) new SourceTextModule(readFileSync(file, "utf8"), { identifier: file });`;
    const names = files.map(({ story, language, authenticated }) => join(folder, `${story}-${authenticated}.${language}.mjs`));
    const node = spawnSync(process.execPath, ["--experimental-vm-modules", "--input-type=module", "--eval", check, "--", ...names], { encoding: "utf8" });
    expect(node.stderr.replace(/\(node:\d+\)[^\n]*\n[^\n]*\n/, "")).toBe("");
    expect(node.status).toBe(0);
    const compiled = spawnSync(process.env["PYTHON"] ?? "python3", ["-c", "import ast,sys\nfor f in sys.argv[1:]: ast.parse(open(f, encoding='utf-8').read())", ...python], { encoding: "utf8" });
    expect(compiled.stderr).toBe("");
    expect(compiled.status).toBe(0);
  }, 120_000);

  it("say every deed, in order", () => {
    const said = program("javascript", STORIES["camera"] ?? [], PLACE);
    const wanted = ['model: "painter"', "getUserMedia", 'setPrompt("oil")', 'setMode("live")', "start()", "wait(2000)", 'setPrompt("snow", { transitionChunks: 4 })', "pause()", "resume()"];
    const places = wanted.map((each) => said.indexOf(each));
    expect(places).toEqual(places.toSorted((one, other) => one - other));
    expect(places).not.toContain(-1);
  });

  it("wait only while something runs", () => {
    const said = program("python", STORIES["clip"] ?? [], PLACE);
    expect(said.slice(0, said.indexOf("session.start()"))).not.toContain("sleep(2");
    expect(said.slice(said.indexOf("session.start()"))).toContain("asyncio.sleep(2)");
  });

  it("hold what users typed as text and as nothing else", () => {
    for (const language of ALL) {
      const said = program(language, STORIES["nasty"] ?? [], PLACE);
      const literal = JSON.stringify(NASTY);
      expect(said).toContain(literal);
      expect(said.replace(literal, "").split("\n").filter((each) => each.includes("#{x}"))).toHaveLength(1);
    }
  });

  it("never hold a token", () => {
    for (const language of ALL) {
      const said = program(language, STORIES["clip"] ?? [], { ...PLACE, authenticated: true });
      expect(said).toMatch(/getToken|SANA_GATEWAY_KEY/);
    }
  });

  it("show an example before anything was done", () => {
    for (const language of ALL) expect(program(language, [], PLACE)).toContain("Van Gogh");
  });
});

describe("deeds", () => {
  it("keep the last of what was chosen before a start, and all of what was changed during a run", () => {
    const done = deeds(CONNECT, prompt("a"), prompt("b"), START, prompt("c"), prompt("d"));
    expect(done.map((each) => (each.kind === "prompt" ? each.prompt : each.kind))).toEqual(["connect", "b", "start", "c", "d"]);
  });

  it("begin anew with a connection, and are bounded", () => {
    const many = Array.from({ length: 200 }, (_, index) => prompt(String(index)));
    const done = deeds(CONNECT, START, ...many);
    expect([done.length, done[0]?.kind]).toEqual([MOST_DEEDS, "connect"]);
    expect(did(done, { ...CONNECT, at: 0 })).toHaveLength(1);
  });

  it("know whether a run goes on", () => {
    expect(isRunning(deeds(CONNECT, START))).toBe(true);
    expect(isRunning(deeds(CONNECT, START, { kind: "pause" }))).toBe(true);
    expect(isRunning(deeds(CONNECT, START, { kind: "reset" }))).toBe(false);
  });
});
