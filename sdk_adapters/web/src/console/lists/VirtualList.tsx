/** A long list of which only what is seen is in the document. Rows are of one height. */
import type { ComponentChildren, CSSProperties } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { onResize } from "../canvas";
import { partOf } from "./part";

interface Given {
  /** What the list is, for screen readers. */
  readonly label: string;
  readonly count: number;
  readonly rowHeight: number;
  readonly class?: string;
  /** A row of headings, in the list's own role. */
  readonly head?: ComponentChildren;
  /** Returns a row. It takes the properties that are given with it. */
  readonly row: (index: number, place: RowPlace) => ComponentChildren;
  readonly empty: string;
  /** Hears whether the first row is seen. */
  readonly onTop?: (isAtTop: boolean) => void;
}

/** What a row has to be given. */
export interface RowPlace {
  readonly role: "row";
  readonly "aria-rowindex": number;
  readonly style: CSSProperties;
}

/** A table by its roles; the keys scroll it, and Tab goes from row to row. */
export function VirtualList({ label, count, rowHeight, class: name = "", head, row, empty, onTop }: Given) {
  const box = useRef<HTMLDivElement>(null);
  const [scrolled, setScrolled] = useState(0);
  const [height, setHeight] = useState(0);
  useEffect(() => onResize(box.current as Element, (_, tall) => setHeight(tall)), []);
  const { first, end } = partOf(scrolled, height, rowHeight, count);
  const rows: ComponentChildren[] = [];
  for (let index = first; index < end; index += 1) {
    const style = { transform: `translateY(${index * rowHeight}px)`, height: `${rowHeight}px` };
    rows.push(row(index, { role: "row", "aria-rowindex": index + (head ? 2 : 1), style }));
  }
  // A table without rows is none.
  const [table, group] = count === 0 ? ([undefined, undefined] as const) : (["table", "rowgroup"] as const);
  return (
    <div class={`list ${name}`} role={table} {...(table && { "aria-label": label, "aria-rowcount": count + (head ? 1 : 0) })}>
      {head && count > 0 && (
        <div class="list-head" role="row" aria-rowindex={1}>
          {head}
        </div>
      )}
      <div
        ref={box}
        class="list-body"
        role={group}
        tabIndex={0}
        onScroll={(event) => {
          const top = event.currentTarget.scrollTop;
          onTop?.(top < rowHeight);
          // Only a whole row more or less changes what is rendered.
          setScrolled(Math.floor(top / rowHeight) * rowHeight);
        }}
      >
        {count === 0 ? (
          <p class="nothing muted">{empty}</p>
        ) : (
          <div class="list-whole" role="presentation" style={{ height: `${count * rowHeight}px` }}>
            {rows}
          </div>
        )}
      </div>
    </div>
  );
}
