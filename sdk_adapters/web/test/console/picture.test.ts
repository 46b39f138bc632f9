import { describe, expect, test } from "vitest";
import { cornerOf, gridOf, placeAt, step } from "../../src/console/cells";
import { computeOf, deviceOf, encodingOf, hostsOf, memoryOf, shortNames } from "../../src/console/hosts";
import { PHASES, PHASE_NAMES } from "../../src/console/phases";
import { Slots } from "../../src/console/slots";
import { actorOf } from "../../src/console/wire";
import * as wires from "./wires";

describe("cells", () => {
  test("are as large as fit into the rows, and fit into the width", () => {
    for (const [places, width] of [
      [4, 300],
      [32, 300],
      [160, 280],
      [256, 200],
    ] as const) {
      const grid = gridOf(places, width, 6);
      expect(grid.columns * grid.rows).toBeGreaterThanOrEqual(places);
      const [x, y] = cornerOf(grid, places - 1);
      expect(x + grid.cell).toBeLessThanOrEqual(width);
      expect(y + grid.cell).toBeLessThanOrEqual(grid.height);
    }
    expect(gridOf(4, 300, 6).cell).toBe(22);
    expect(gridOf(32, 300, 6).cell).toBeGreaterThan(gridOf(160, 280, 6).cell);
  });

  test("a point leads back to its place", () => {
    const grid = gridOf(40, 200, 4);
    for (const place of [0, 7, 39]) {
      const [x, y] = cornerOf(grid, place);
      expect(placeAt(grid, x + grid.cell / 2, y + grid.cell / 2)).toBe(place);
    }
    expect(placeAt(grid, -20, 0)).toBe(-1);
    expect(placeAt(grid, 0, 10_000)).toBe(-1);
  });

  test("keys go from session to session and skip free places", () => {
    const grid = { columns: 3, rows: 3, cell: 10, gap: 2, height: 34 };
    const places = new Slots();
    for (const id of ["a", "b", "c", "d", "e", "f", "g"]) places.take(id);
    places.leave("b");
    places.leave("d");
    expect(step(grid, places, -1, "ArrowRight")).toBe(0);
    expect(step(grid, places, 0, "ArrowRight")).toBe(2);
    expect(step(grid, places, 2, "ArrowLeft")).toBe(0);
    expect(step(grid, places, 0, "ArrowDown")).toBe(6);
    expect(step(grid, places, 0, "ArrowUp")).toBe(0);
    expect(step(grid, places, 2, "Home")).toBe(0);
    expect(step(grid, places, 2, "End")).toBe(6);
    expect(step(grid, places, 2, "q")).toBeNull();
  });
});

describe("places", () => {
  test("who comes takes the first free one and keeps it", () => {
    const places = new Slots();
    for (const id of ["a", "b", "c"]) places.take(id);
    places.leave("a");
    places.take("b");
    places.take("d");
    expect([places.at(0), places.at(1), places.at(2)]).toEqual(["d", "b", "c"]);
    places.leave("c");
    expect([places.length, places.taken]).toEqual([2, 2]);
    places.keep(new Set(["b"]));
    expect([places.at(0), places.placeOf("b"), places.placeOf("d")]).toEqual([null, 1, -1]);
  });
});

describe("hosts and ledgers", () => {
  const actor = (id: string, more: object = {}) => actorOf(wires.actor(id, more));

  test("are in the order of their numbers", () => {
    const actors = [actor("x", { host: "gpu-10" }), actor("y", { host: "gpu-2", gpus: "1" }), actor("z", { host: "gpu-2", gpus: "0" })];
    expect(hostsOf(actors).map(({ name, actors: on }) => [name, on.map(({ id }) => id)])).toEqual([
      ["gpu-2", ["z", "y"]],
      ["gpu-10", ["x"]],
    ]);
    expect([...shortNames(new Set(["gpu-host-1", "gpu-host-12"]))]).toEqual([["gpu-host-1", "1"], ["gpu-host-12", "12"]]);
    expect([...shortNames(new Set(["rack-a", "rack-a-2"])).values()]).toEqual(["a", "a-2"]);
    expect([...shortNames(new Set(["alone-1"])).values()]).toEqual(["alone-1"]);
    expect([deviceOf(actor("x")), deviceOf(actor("x", { gpus: "" }))]).toEqual(["GPU 0", "Actor x"]);
  });

  test("compute is told against its ceiling, of a whole second", () => {
    expect(computeOf(actor("a"))).toMatchObject({ filled: 0.8125, ceiling: 0.85, figure: "81 % / 85 %" });
  });

  test("memory goes by what is scarcer: places or bytes", () => {
    expect(memoryOf(actor("a"), 125).filled).toBeCloseTo(0.78125);
    expect(memoryOf(actor("a", { booked_bytes: "68719476736" }), 125)).toMatchObject({ filled: 1, figure: "125 / 160" });
  });

  test("encoding is the host's: what the others have booked is told, too", () => {
    const [host] = hostsOf([actor("a"), actor("b", { booked_encode_ms_per_s: 3600 })]);
    const told = encodingOf(actor("a"), host!);
    expect(told.filled).toBeCloseTo(410 / 7200);
    expect(told.others).toBeCloseTo(0.5);
    expect(encodingOf(actor("a", { encode_ceiling_ms_per_s: 0 }), host!).figure).toBe("not counted");
  });
});

test("no two phases on an actor look alike without their colours", () => {
  const onActor = PHASE_NAMES.filter((name) => name !== "queued" && name !== "parked");
  expect(new Set(onActor.map((name) => PHASES[name].shape)).size).toBe(onActor.length);
});
