/** Prompts to begin with. */
export interface Preset {
  readonly name: string;
  readonly prompt: string;
}

export const PRESETS: readonly Preset[] = [
  { name: "Van Gogh", prompt: "Van Gogh oil painting, swirling brushstrokes, vivid colors" },
  { name: "Pencil", prompt: "Detailed pencil sketch on rough white paper" },
  { name: "Watercolour", prompt: "Soft watercolour painting with loose washes of colour" },
  { name: "Comic", prompt: "Hand-drawn cartoon with bold ink outlines and flat colours" },
  { name: "Neon", prompt: "Neon-lit cyberpunk scene, glowing outlines in the dark" },
  { name: "Snow", prompt: "A cold winter morning, snow falling over everything" },
  { name: "Golden hour", prompt: "Warm light of a golden hour sunset, long shadows" },
  { name: "Noir", prompt: "Film noir, black and white, hard light and deep shadows" },
  {
    name: "Speakeasy",
    prompt: "Replace the background with a dimly lit speakeasy lounge, leaving the subject unchanged",
  },
];
