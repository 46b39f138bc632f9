/** Tabs: one of several parts is shown; arrow keys go from tab to tab. */
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

interface Given<Name extends string> {
  readonly label: string;
  readonly tabs: Readonly<Record<Name, ComponentChildren>>;
  readonly chosen: Name;
  readonly onChoose: (name: Name) => void;
  readonly children: ComponentChildren;
}

const STEP: Readonly<Record<string, number>> = { ArrowRight: 1, ArrowLeft: -1 };

/** The children are the part that is shown. */
export function Tabs<Name extends string>({ label, tabs, chosen, onChoose, children }: Given<Name>) {
  const id = useId();
  const names = Object.keys(tabs) as Name[];
  const onKeyDown = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    const by = STEP[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = names[(names.indexOf(chosen) + by + names.length) % names.length] as Name;
    onChoose(next);
    event.currentTarget.querySelector<HTMLElement>(`[data-tab="${next}"]`)?.focus();
  };
  return (
    <div class="tabs">
      <div class="tab-list" role="tablist" aria-label={label} onKeyDown={onKeyDown}>
        {names.map((name) => (
          <button
            key={name}
            id={`${id}-${name}`}
            data-tab={name}
            class="tab"
            type="button"
            role="tab"
            aria-selected={name === chosen}
            aria-controls={`${id}-part`}
            tabIndex={name === chosen ? 0 : -1}
            onClick={() => onChoose(name)}
          >
            {tabs[name]}
          </button>
        ))}
      </div>
      <div id={`${id}-part`} class="tab-part" role="tabpanel" aria-labelledby={`${id}-${chosen}`}>
        {children}
      </div>
    </div>
  );
}
