/** Python code that the panel generates. */

const IMPORT = 'import jupyter_axon_notebooks as axon';
const IMPORTED = /^[ \t]*import[ \t]+jupyter_axon_notebooks[ \t]+as[ \t]+axon\b/m;

/** The fields of a checkpoint that concern its state files. */
export interface IStateFiles {
  id: string;
  model_state_path: string;
  optimizer_state_path?: string;
}

const OBJECT = String.raw`([A-Za-z_]\w*(?:\.\w+)*)`;
const CALL = new RegExp(
  String.raw`\baxon\.checkpoint\(\s*${OBJECT}\s*(?:,\s*(?:optimizer\s*=\s*)?${OBJECT}\s*(?=[,)]))?`,
  'g'
);

/**
 * Return the code that restores a checkpoint; undefined if it has no state of a model, or no longer.
 *
 * The variables are those of the last call of `axon.checkpoint` in `sources`.
 */
export function restoreLine(
  checkpoint: IStateFiles,
  sources: readonly string[] = []
): string | undefined {
  if (!hasState(checkpoint, 'model')) {
    return undefined;
  }
  const [, model = 'model', optimizer = 'optimizer'] =
    [...sources.join('\n').matchAll(CALL)].filter(([, name]) => name !== 'None').at(-1) ?? [];
  const objects = hasState(checkpoint, 'optimizer') ? `${model}, ${optimizer}` : model;
  return `axon.get(${JSON.stringify(checkpoint.id)}).restore(${objects})`;
}

/** Add the import to a line of code unless one of `sources` has it. */
export function withImport(line: string, sources: Iterable<string>): string {
  for (const source of sources) {
    if (IMPORTED.test(source)) {
      return line;
    }
  }
  return `${IMPORT}\n\n${line}`;
}

/** Return whether a state file exists; a pruned one has a size, but no path. */
export function hasState(checkpoint: IStateFiles, part: 'model' | 'optimizer'): boolean {
  return (checkpoint[`${part}_state_path`] ?? '') !== '';
}

/** An example for users who have no checkpoints yet. */
export const CHECKPOINT_EXAMPLE = `${IMPORT}

axon.checkpoint(
    model, optimizer,
    epoch=epoch,
    metrics={"val_loss": val_loss},
)`;
