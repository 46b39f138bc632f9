/** Sources, schemas and the log of the playground. */
import { describe, expect, it } from "vitest";
import { capabilityOf } from "../../src/playground/capability";
import { added, line, MOST_ENTRIES, type Entry } from "../../src/playground/log";
import { fileProblem, mediaProblem, whyNot } from "../../src/playground/source";

const ALL = { secure: true, camera: true, screen: true };

describe("sources", () => {
  it("are all there on a secure page of a modern browser", () => {
    for (const kind of ["camera", "screen", "file"] as const) expect(whyNot(kind, ALL)).toBeNull();
  });

  it.each([
    ["camera", { ...ALL, secure: false }, "HTTPS"],
    ["screen", { ...ALL, secure: false }, "HTTPS"],
    ["camera", { ...ALL, camera: false }, "no cameras"],
    ["screen", { ...ALL, screen: false }, "no screens"],
  ] as const)("%s is missing with %o", (kind, can, words) => {
    const problem = whyNot(kind, can);
    expect(problem?.message).toContain(words);
    expect(problem?.advice).not.toBe("");
  });

  it("need nothing for a file", () => {
    expect(whyNot("file", { secure: false, camera: false, screen: false })).toBeNull();
  });

  it.each(["NotAllowedError", "NotFoundError", "NotReadableError", "OverconstrainedError", "AbortError", ""])(
    "explain %s and say what to do",
    (name) => {
      for (const kind of ["camera", "screen"] as const) {
        const { message, advice } = mediaProblem(kind, Object.assign(new Error("x"), { name }));
        expect(message).not.toBe("x");
        expect(advice).toMatch(/\.$/);
      }
    },
  );

  it.each([
    [{ type: "video/mp4", size: 5, name: "a.mp4" }, null],
    [{ type: "", size: 5, name: "a.mkv" }, null],
    [{ type: "text/plain", size: 5, name: "a.txt" }, "no video"],
    [{ type: "video/mp4", size: 0, name: "a.mp4" }, "empty"],
  ])("judge the file %o", (file, words) => {
    const problem = fileProblem(file);
    if (words === null) expect(problem).toBeNull();
    else expect(problem?.message).toContain(words);
  });
});

describe("the schema", () => {
  const property = (name: string, maximum: number) => ({
    post: { requestBody: { content: { "application/json": { schema: { properties: { [name]: { maximum } } } } } } },
  });

  it("says what the model has", () => {
    const schema = {
      info: { title: "painter" },
      paths: { "/events/set_prompt": property("transition_chunks", 16), "/events/set_seed": property("seed", 99) },
    };
    expect(capabilityOf(schema)).toEqual({ model: "painter", mostTransitionChunks: 16, mostSeed: 99 });
  });

  it("says what it has not", () => {
    expect(capabilityOf({ info: { title: "x" }, paths: {} })).toEqual({ model: "x", mostTransitionChunks: 0, mostSeed: 0 });
  });
});

describe("the log", () => {
  const entry: Omit<Entry, "id"> = { at: 0, from: "page", name: "start", text: "", failed: false };

  it("is bounded, and its entries have ids of their own", () => {
    let entries: readonly Entry[] = [];
    for (let index = 0; index < MOST_ENTRIES + 50; index += 1) entries = added(entries, entry);
    expect(entries).toHaveLength(MOST_ENTRIES);
    expect(new Set(entries.map(({ id }) => id)).size).toBe(MOST_ENTRIES);
  });

  it("shows objects as a line", () => {
    expect(line({ chunkIndex: 3, activePrompt: "oil", nothing: null, list: [] })).toBe("chunk index 3 · active prompt “oil”");
    expect(line({ prompt: "x".repeat(2_000) }).length).toBe(300);
  });
});
