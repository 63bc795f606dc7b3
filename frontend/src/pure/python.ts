/** The lines of Python that the panel writes for people. */

const IMPORT = 'import jupyter_axon_notebooks as axon';
const IMPORTED = /^[ \t]*import[ \t]+jupyter_axon_notebooks[ \t]+as[ \t]+axon\b/m;

/** A checkpoint as far as it matters to what restores it. */
export interface IStored {
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
 * What restores a checkpoint in a notebook; undefined where no state of a model is stored, or it was pruned.
 *
 * The objects are called what the last call of `axon.checkpoint` in `sources` calls them.
 */
export function restoreLine(
  checkpoint: IStored,
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

/** A line as a cell's source; with the import where none of `sources` has it. */
export function withImport(line: string, sources: Iterable<string>): string {
  for (const source of sources) {
    if (IMPORTED.test(source)) {
      return line;
    }
  }
  return `${IMPORT}\n\n${line}`;
}

/** Whether a state is there; what was pruned has its size left, but no path. */
export function hasState(checkpoint: IStored, part: 'model' | 'optimizer'): boolean {
  return (checkpoint[`${part}_state_path`] ?? '') !== '';
}

/** How a notebook makes a checkpoint. */
export const CHECKPOINT_EXAMPLE = `${IMPORT}

axon.checkpoint(
    model, optimizer,
    epoch=epoch,
    metrics={"val_loss": val_loss},
)`;
