/** How good the connection is, and what limits the picture. */
import { LIMITS, type Limit } from "@sana-gateway/client";
import { bitrate, duration } from "../shared/format";
import { Sparkline, type Sample } from "../shared/Sparkline";
import { fit } from "./alignment";
import { desk } from "./desk";
import type { Look } from "./shot";

/** What a limit is called, and how bad it is. */
const NAMES: Readonly<Record<Limit, readonly [string, "good" | "warn" | "bad" | ""]>> = {
  none: ["Good", "good"],
  idle: ["Idle", ""],
  connection: ["Connection lost", "bad"],
  capacity: ["Limited by the GPU pool", "warn"],
  service: ["Limited by the service", "warn"],
  source: ["No pictures from the source", "bad"],
  camera_cpu: ["Limited by this machine's encoder", "warn"],
  uplink: ["Limited by the way up", "warn"],
  downlink: ["Limited by the way down", "warn"],
  decoder: ["Limited by this machine's decoder", "warn"],
};

const PATHS: Readonly<Record<string, string>> = {
  host: "direct",
  srflx: "direct, through NAT",
  prflx: "direct, through NAT",
  relay: "relayed (TURN)",
};

/** Looks that a chart shows: a minute. */
const ROOM = 60;

interface Chart {
  readonly name: string;
  readonly key: keyof Look;
  readonly show: (value: number) => string;
  readonly most?: number;
  /** What the absence of values means. */
  readonly none: string;
}

const CHARTS: readonly Chart[] = [
  { name: "Glass to glass", key: "glassToGlassMs", show: duration, none: "with a camera or a screen" },
  { name: "Prompt to pixels", key: "promptToPixelsMs", show: duration, none: "when a prompt takes effect" },
  { name: "Frames per second", key: "fps", show: (value) => value.toFixed(1), most: 30, none: "nothing runs" },
];

/** See above. */
export function QualityPanel() {
  const { shot } = desk;
  const stats = shot.stats.value;
  if (stats === null) return <p class="muted empty-note">Nothing is connected. Press Start, and this shows how well the picture travels.</p>;
  const [name, mood] = NAMES[stats.limit];
  const looks = shot.looks.value;
  const { video, camera, service } = stats;
  const figures: readonly (readonly [string, string])[] = [
    ["Round trip", duration(stats.rttMs)],
    ["Path", PATHS[stats.path] ?? "–"],
    ["Picture", video.width ? `${video.width} × ${video.height} ${video.codec}` : "–"],
    ["Received", bitrate(video.bitrate)],
    ["Lost packets", `${(video.loss * 100).toFixed(1)} %`],
    ["Freezes", String(video.freezes)],
    ...(camera ? ([["Sent", `${camera.fps.toFixed(0)} fps, ${bitrate(camera.bitrate)}`]] as const) : []),
    ...(service ? ([["Buffered in the service", `${service.buffered} frames`]] as const) : []),
    ...(fit.value ? ([["Source against result", `${fit.value.errorFrames.toFixed(1)} frames`]] as const) : []),
  ];
  return (
    <div class="quality">
      <div class="limit" data-testid="limit" data-limit={stats.limit}>
        <span class={`pill ${mood}`}>{name}</span>
        <p class="small">{LIMITS[stats.limit]}</p>
      </div>
      {CHARTS.map((chart) => (
        <ChartRow key={chart.key} chart={chart} samples={looks.map((look) => look[chart.key])} />
      ))}
      <dl class="figures small">
        {figures.map(([label, value]) => (
          <div key={label}>
            <dt class="muted">{label}</dt>
            <dd class="number">{value}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

function ChartRow({ chart, samples }: { chart: Chart; samples: readonly Sample[] }) {
  const { name, show, most, none } = chart;
  const last = samples.findLast((each) => each !== null) ?? null;
  const said = last === null ? none : show(last);
  return (
    <div class="chart" data-testid={`chart-${chart.key}`}>
      <div class="chart-head">
        <span class="small muted">{name}</span>
        <span class={last === null ? "small muted" : "chart-value number"}>{said}</span>
      </div>
      {last !== null && (
        <Sparkline samples={samples} room={ROOM} label={`${name}: ${said}`} {...(most !== undefined && { most })} />
      )}
    </div>
  );
}
