/** The line between source and result: dragged, or moved with the arrow keys. */
import { Icon } from "../shared/Icon";
import { divider, moveDivider } from "./view";

const STEPS: Readonly<Record<string, (at: number) => number>> = {
  ArrowLeft: (at) => at - 2,
  ArrowDown: (at) => at - 2,
  ArrowRight: (at) => at + 2,
  ArrowUp: (at) => at + 2,
  PageDown: (at) => at - 10,
  PageUp: (at) => at + 10,
  Home: () => 0,
  End: () => 100,
};

/** A slider over its parent, from edge to edge. */
export function Divider() {
  const drag = (event: PointerEvent) => {
    const line = event.currentTarget as HTMLElement;
    if (!line.hasPointerCapture(event.pointerId)) return;
    const { left, width } = (line.parentElement as HTMLElement).getBoundingClientRect();
    moveDivider(((event.clientX - left) / width) * 100);
  };
  const at = Math.round(divider.value);
  return (
    <div
      class="divider"
      role="slider"
      tabIndex={0}
      aria-label="Divider between source and result"
      aria-orientation="horizontal"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={at}
      aria-valuetext={`${at} percent source`}
      style={{ left: `${divider.value}%` }}
      onPointerDown={(event) => (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId)}
      onPointerMove={drag}
      onDblClick={() => moveDivider(50)}
      onKeyDown={(event) => {
        const step = STEPS[event.key];
        if (step === undefined) return;
        event.preventDefault();
        moveDivider(step(divider.value));
      }}
    >
      <span class="divider-handle">
        <Icon name="brand" size={22} />
      </span>
    </div>
  );
}
