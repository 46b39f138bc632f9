/** The pictures: source and result over or beside each other, and the takes. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Alignment } from "./alignment";
import { desk, type Take } from "./desk";
import { Divider } from "./Divider";
import { Overlay } from "./Overlay";
import { source } from "./source";
import { HEIGHT, WIDTH } from "./sourceFrames";
import { divider, view } from "./view";
import { Icon } from "../shared/Icon";

/** All of it. */
export function Stage() {
  const [result, own, canvas] = [
    useRef<HTMLVideoElement>(null),
    useRef<HTMLVideoElement>(null),
    useRef<HTMLCanvasElement>(null),
  ];
  const alignment = useRef<Alignment | null>(null);
  const chosen = source.value;
  /** The clip that this browser cannot decode. */
  const [broken, setBroken] = useState<string | null>(null);

  useEffect(() => {
    if (result.current === null || own.current === null || canvas.current === null) return undefined;
    const detach = desk.shot.model.attach(result.current);
    const made = (alignment.current = new Alignment(result.current, own.current, canvas.current));
    return () => {
      made.close();
      detach();
    };
  }, []);

  useEffect(() => {
    const video = own.current;
    if (video === null) return;
    video.srcObject = null;
    video.removeAttribute("src");
    if (chosen === null) {
      video.load();
      return alignment.current?.stop();
    }
    if (chosen.kind === "file") video.src = chosen.url;
    else video.srcObject = chosen.stream;
    alignment.current?.watch(chosen.kind === "file");
    if (chosen.kind !== "file") void video.play().catch(() => undefined);
  }, [chosen]);

  const { shot } = desk;
  const takes = desk.takes.value;
  const live = shot.shown.value && shot.state.value !== null && (shot.state.value.started || !desk.isOtherSource.value);
  const isBroken = chosen?.kind === "file" && broken === chosen.url;
  const shown = !live && chosen !== null ? "preview" : live && !isBroken ? view.value : "result";
  return (
    <section class="stage" aria-label="Picture" data-takes={takes.length} data-testid="stage">
      <figure
        class="tile main"
        data-view={shown}
        data-testid="main-tile"
      >
        <div class="picture result-picture">
          <video ref={result} class="result" data-testid="result" aria-label="Result" autoplay muted playsInline />
        </div>
        <div
          class="picture source-picture"
          style={{ clipPath: shown === "compare" ? `inset(0 ${100 - divider.value}% 0 0)` : "none" }}
        >
          <canvas ref={canvas} width={WIDTH} height={HEIGHT} class="aligned" data-testid="source" role="img" aria-label="Source, delayed to the result" />
        </div>
        <video
          ref={own}
          class="own"
          data-testid="preview"
          aria-label="Source"
          muted
          playsInline
          preload="auto"
          data-broken={isBroken}
          onError={() => chosen?.kind === "file" && setBroken(chosen.url)}
        />
        {isBroken && !live && (
          <p class="tile-note" data-testid="undecodable">
            This browser cannot show this clip. The service may know its format: press Start.
          </p>
        )}
        {shown === "compare" && <Divider />}
        <span class="tag left" hidden={shown !== "compare" && shown !== "beside"}>
          Source
        </span>
        <span class="tag right" hidden={shown === "preview" || !live}>
          Result
        </span>
        <span class="tag left" hidden={shown !== "preview"}>
          Preview
        </span>
        <Overlay />
        {takes.length > 0 && <figcaption>{shot.state.value?.currentPrompt ?? ""}</figcaption>}
      </figure>
      {takes.map((take) => (
        <TakeTile key={take.id} take={take} />
      ))}
    </section>
  );
}

function TakeTile({ take }: { take: Take }) {
  const video = useRef<HTMLVideoElement>(null);
  const { shot, prompt } = take;
  useEffect(() => (video.current === null ? undefined : shot.model.attach(video.current)), [shot]);
  const state = shot.state.value;
  const place = shot.queue.value;
  const waits = place ? `Place ${place.position} in the queue` : state === null ? "Connecting" : "";
  return (
    <figure class="tile" data-testid="take" data-view="result">
      <div class="picture">
        <video ref={video} class="result" autoplay muted playsInline aria-label={`Result: ${prompt}`} />
      </div>
      {waits && <p class="tile-note">{waits}</p>}
      <figcaption>{state?.currentPrompt ?? prompt}</figcaption>
      <button class="button icon tile-close" type="button" aria-label={`End take: ${prompt}`} onClick={() => desk.closeTake(take)}>
        <Icon name="close" size={16} />
      </button>
    </figure>
  );
}
