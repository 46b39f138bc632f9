/** What happened, the newest first; narrowed by a group and by words. */
import { signal } from "@preact/signals";
import { useMemo, useRef, useState } from "preact/hooks";
import { clock, count } from "../format";
import type { Entry } from "../journal";
import { detailOf, gravityOf, GROUPS, isWanted, labelOf, type Group } from "../kinds";
import { journal, logged } from "../state";
import { SessionLink } from "./SessionLink";
import { VirtualList, type RowPlace } from "./VirtualList";

const group = signal<Group>("all");
const wanted = signal("");

/** Newer events wait above while the reader is further down. */
export function EventLog() {
  const [isAtTop, setAtTop] = useState(true);
  const held = useRef(0);
  const upTo = isAtTop ? logged.value : held.current;
  held.current = upTo;
  const entries = useMemo(
    () => newestFirst(journal.log, upTo, group.value, wanted.value),
    [upTo, group.value, wanted.value],
  );
  const newer = isAtTop ? 0 : newerThan(journal.log, upTo);
  return (
    <>
      <div class="list-tools">
        <div class="segments" role="group" aria-label="Kinds of events">
          {(Object.keys(GROUPS) as Group[]).map((name) => (
            <button
              key={name}
              type="button"
              class="segment"
              aria-pressed={group.value === name}
              onClick={() => (group.value = name)}
            >
              {GROUPS[name]}
            </button>
          ))}
        </div>
        <input
          class="input slim"
          type="search"
          placeholder="Filter"
          aria-label="Filter events by words"
          value={wanted.value}
          onInput={(event) => (wanted.value = event.currentTarget.value)}
        />
      </div>
      {newer > 0 && (
        <p class="list-note small" role="status">
          {count(newer)} newer: go to the top to see them.
        </p>
      )}
      <VirtualList
        label="Events"
        class="events"
        count={entries.length}
        rowHeight={48}
        empty={journal.log.length === 0 ? "Nothing has happened yet." : "No event is like that."}
        onTop={setAtTop}
        row={(index, place) => {
          const entry = entries[index];
          return entry === undefined ? null : <LogRow key={keyOf(entry)} entry={entry} place={place} />;
        }}
      />
    </>
  );
}

function LogRow({ entry, place }: { entry: Entry; place: RowPlace }) {
  if (entry.is === "gap") {
    return (
      <div {...place} class="list-row gap">
        <span role="cell">{count(Math.max(1, entry.next - entry.after - 1))} events are missing here</span>
      </div>
    );
  }
  const { event } = entry;
  const detail = detailOf(event);
  return (
    <div {...place} class="list-row">
      <span role="cell" class="two-lines">
        <span>
          <span class={`gravity ${gravityOf(event.kind)}`} aria-hidden="true" />
          {labelOf(event.kind)}
          {event.session !== "" && (
            <>
              {" "}
              <SessionLink id={event.session} />
            </>
          )}
        </span>
        <span class="muted small clip" title={detail}>
          <time dateTime={new Date(event.at).toISOString()}>{clock(event.at).slice(0, 8)}</time>
          {event.tenant && ` · ${event.tenant}`}
          {detail && ` · ${detail}`}
        </span>
      </span>
    </div>
  );
}

function newestFirst(log: Iterable<Entry>, upTo: number, chosen: Group, words: string): readonly Entry[] {
  const found: Entry[] = [];
  for (const entry of log) {
    if (sequenceOf(entry) > upTo) continue;
    if (entry.is === "gap" || isWanted(entry.event, chosen, words)) found.push(entry);
  }
  return found.reverse();
}

function newerThan(log: Iterable<Entry>, upTo: number): number {
  let newer = 0;
  for (const entry of log) if (sequenceOf(entry) > upTo && isWantedNow(entry)) newer += 1;
  return newer;
}

function isWantedNow(entry: Entry): boolean {
  return entry.is === "gap" || isWanted(entry.event, group.peek(), wanted.peek());
}

function sequenceOf(entry: Entry): number {
  return entry.is === "gap" ? entry.next - 1 : entry.event.sequence;
}

function keyOf(entry: Entry): string {
  return `${entry.is} ${sequenceOf(entry)}`;
}
