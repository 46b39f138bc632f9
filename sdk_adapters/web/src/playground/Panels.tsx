/** What stands beside the picture: quality, state, messages, code; one at a time. */
import type { FunctionComponent } from "preact";
import { useRef } from "preact/hooks";
import { CodePanel } from "./CodePanel";
import { MessagePanel } from "./MessagePanel";
import { QualityPanel } from "./QualityPanel";
import { StatePanel } from "./StatePanel";
import { panel, type Panel } from "./view";

const PANELS: Readonly<Record<Panel, readonly [string, FunctionComponent]>> = {
  quality: ["Quality", QualityPanel],
  state: ["State", StatePanel],
  messages: ["Messages", MessagePanel],
  code: ["Code", CodePanel],
};
const NAMES = Object.keys(PANELS) as Panel[];

/** Tabs: arrow keys go from one to the next. */
export function Panels() {
  const tabs = useRef<HTMLDivElement>(null);
  const [, Shown] = PANELS[panel.value];
  const go = (by: number) => {
    const next = NAMES[(NAMES.indexOf(panel.value) + by + NAMES.length) % NAMES.length] as Panel;
    panel.value = next;
    tabs.current?.querySelector<HTMLElement>(`#tab-${next}`)?.focus();
  };
  return (
    <aside class="panels card" aria-label="Details">
      <div
        ref={tabs}
        class="tabs"
        role="tablist"
        aria-label="Details"
        onKeyDown={({ key }) => (key === "ArrowRight" ? go(1) : key === "ArrowLeft" ? go(-1) : undefined)}
      >
        {NAMES.map((name) => (
          <button
            key={name}
            id={`tab-${name}`}
            class="tab"
            type="button"
            role="tab"
            aria-selected={panel.value === name}
            aria-controls="panel"
            tabIndex={panel.value === name ? 0 : -1}
            onClick={() => (panel.value = name)}
          >
            {PANELS[name][0]}
          </button>
        ))}
      </div>
      <div id="panel" class="panel" role="tabpanel" aria-labelledby={`tab-${panel.value}`} tabIndex={0}>
        <Shown />
      </div>
    </aside>
  );
}
