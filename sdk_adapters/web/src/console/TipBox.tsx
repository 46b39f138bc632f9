/** The box beside the pointer, and what screen readers are told of what the keyboard has chosen. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { spoken, tip } from "./tip";

const AWAY = 14;

/** One for the whole page. */
export function TipBox() {
  const box = useRef<HTMLDivElement>(null);
  const said = tip.value;
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null || said === null) return;
    const { width, height } = element.getBoundingClientRect();
    const [right, below] = [said.x + AWAY + width < innerWidth, said.y + AWAY + height < innerHeight];
    const [x, y] = [right ? said.x + AWAY : said.x - AWAY - width, below ? said.y + AWAY : said.y - AWAY - height];
    element.style.transform = `translate(${Math.max(4, Math.round(x))}px, ${Math.max(4, Math.round(y))}px)`;
  }, [said]);
  return (
    <>
      {said && (
        <div ref={box} class="tip" aria-hidden="true">
          <strong class="mono">{said.title}</strong>
          {said.lines.map((line) => (
            <span key={line}>{line}</span>
          ))}
        </div>
      )}
      <div class="hidden-text spoken" role="status">
        {spoken.value}
      </div>
    </>
  );
}
