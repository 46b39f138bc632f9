/** Finds a session by its id, or the sessions of a tenant; the picture dims all others meanwhile. */
import { useId, useState } from "preact/hooks";
import { Icon } from "../shared/Icon";
import { PhaseMark } from "./PhaseMark";
import { counted } from "./format";
import { PHASES, phaseOf } from "./phases";
import { find, type Found } from "./search";
import { openSession, pool, shown, tenant, words } from "./state";

/** Id of the field, for the shortcut. */
export const SEARCH = "search";

/** A field with a list of finds below it: arrow keys choose, Enter takes. */
export function Search() {
  const id = useId();
  const [isOpen, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const typed = words.value;
  if (isOpen) shown.value;
  const found = isOpen ? find(pool.sessions.values(), typed) : [];
  const chosen = Math.min(at, found.length - 1);
  const take = (each: Found | undefined) => {
    if (each === undefined) return;
    if (each.is === "tenant") tenant.value = each.tenant;
    else openSession.value = each.session.id;
    words.value = "";
    setOpen(false);
  };
  const keys: Readonly<Record<string, () => void>> = {
    ArrowDown: () => setAt(Math.min(found.length - 1, chosen + 1)),
    ArrowUp: () => setAt(Math.max(0, chosen - 1)),
    Enter: () => take(found[chosen]),
    Escape: () => {
      words.value = "";
      setOpen(false);
    },
  };
  return (
    <div class="search">
      <Icon name="search" size={18} />
      <input
        id={SEARCH}
        class="input slim"
        type="text"
        role="combobox"
        placeholder="Session or tenant"
        aria-label="Search for a session or a tenant"
        aria-expanded={found.length > 0}
        aria-controls={`${id}-found`}
        aria-autocomplete="list"
        aria-activedescendant={found.length > 0 ? `${id}-${chosen}` : undefined}
        autocomplete="off"
        spellcheck={false}
        value={typed}
        onInput={(event) => {
          words.value = event.currentTarget.value;
          setOpen(true);
          setAt(0);
        }}
        onBlur={() => setOpen(false)}
        onKeyDown={(event) => {
          const act = keys[event.key];
          if (act === undefined) return;
          event.preventDefault();
          act();
        }}
      />
      <ul id={`${id}-found`} class="found" role="listbox" aria-label="Finds" hidden={found.length === 0}>
        {found.map((each, index) => (
          <li
            key={each.is === "tenant" ? `t ${each.tenant}` : each.session.id}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === chosen}
            // Before the field loses the focus.
            onMouseDown={(event) => {
              event.preventDefault();
              take(each);
            }}
          >
            <Find found={each} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function Find({ found }: { found: Found }) {
  if (found.is === "tenant") {
    return (
      <>
        <strong>{found.tenant}</strong> <span class="muted small">tenant, {counted(found.sessions, "session")}</span>
      </>
    );
  }
  const { session } = found;
  return (
    <>
      <PhaseMark phase={phaseOf(session)} /> <span class="mono clip">{session.id}</span>{" "}
      <span class="muted small">
        {PHASES[phaseOf(session)].label}, {session.tenant || "no tenant"}
      </span>
    </>
  );
}
