/** What both pages use. */
import { describe, expect, it } from "vitest";
import { bitrate, bytes, duration } from "../../src/shared/format";
import { shortcutOf, type Shortcut } from "../../src/shared/keys";
import { paths } from "../../src/shared/Sparkline";

describe("figures", () => {
  it.each([
    [null, "–"],
    [Number.NaN, "–"],
    [0, "0 ms"],
    [999.4, "999 ms"],
    [1_240, "1.24 s"],
    [12_340, "12.3 s"],
    [60_000, "1 min"],
    [200_000, "3 min 20 s"],
  ])("%s is %s", (ms, said) => expect(duration(ms)).toBe(said));

  it("have units", () => {
    expect([bytes(24), bytes(3_140_000), bytes(999_999)]).toEqual(["24 B", "3.1 MB", "1.0 MB"]);
    expect([bitrate(640_000), bitrate(2_430_000)]).toEqual(["640 kbit/s", "2.4 Mbit/s"]);
  });
});

describe("shortcuts", () => {
  const SHORTCUTS: readonly Shortcut[] = [
    { keys: [" "], shown: "Space", what: "go", run: () => undefined },
    { keys: ["r"], shown: "R", what: "reset", run: () => undefined },
    { keys: ["ArrowLeft"], shown: "←", what: "left", run: () => undefined },
  ];
  const press = (key: string, more: object = {}) => ({ key, ctrlKey: false, metaKey: false, altKey: false, repeat: false, ...more });
  /** An element that is within what some selectors name. */
  const within = (...kinds: string[]) =>
    ({ closest: (selector: string) => (kinds.some((kind) => selector.includes(kind)) ? {} : null) }) as unknown as Element;

  it("are found by their keys, large or small", () => {
    expect(shortcutOf(press("R"), null, SHORTCUTS)?.what).toBe("reset");
    expect(shortcutOf(press("x"), null, SHORTCUTS)).toBeUndefined();
  });

  it("leave the browser's own alone", () => {
    for (const held of ["ctrlKey", "metaKey", "altKey", "repeat"])
      expect(shortcutOf(press("r", { [held]: true }), null, SHORTCUTS)).toBeUndefined();
  });

  it.each([
    ["r", "textarea", false],
    ["r", "dialog", false],
    ["r", "button", true],
    [" ", "button", false],
    ["ArrowLeft", "slider", false],
    ["ArrowLeft", "button", true],
  ])("%s within %s: %s", (key, kind, ours) => {
    expect(shortcutOf(press(key), within(kind), SHORTCUTS) !== undefined).toBe(ours);
  });
});

describe("sparklines", () => {
  it("end at the right and are cut where nothing is known", () => {
    const { line, area } = paths([0, 10, null, 5], 4, 10);
    expect(line).toBe("M0 31L40 1M120 16h0.01");
    expect(area.match(/Z/g)).toHaveLength(2);
  });

  it("show no more than there is room for", () => {
    expect(paths([1, 2, 3, 4], 2).line.match(/[ML]/g)).toHaveLength(2);
    expect(paths([], 4)).toEqual({ line: "", area: "" });
  });
});
