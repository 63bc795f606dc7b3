/** The lines of Python that the panel writes for people. */

const IMPORT = 'import jupyter_axon_notebooks as axon';
const IMPORTED = /^\s*import\s+jupyter_axon_notebooks\s+as\s+axon\b/m;

/** What restores a checkpoint in a notebook. */
export function restoreLine(checkpointId: string): string {
  return `axon.get(${JSON.stringify(checkpointId)}).restore(model, optimizer)`;
}

/** The same as a cell's source; with the import where none of `sources` has it. */
export function restoreCell(checkpointId: string, sources: Iterable<string>): string {
  for (const source of sources) {
    if (IMPORTED.test(source)) {
      return restoreLine(checkpointId);
    }
  }
  return `${IMPORT}\n\n${restoreLine(checkpointId)}`;
}

/** How a notebook makes a checkpoint. */
export const CHECKPOINT_EXAMPLE = `${IMPORT}

axon.checkpoint(
    model, optimizer,
    epoch=epoch,
    metrics={"val_loss": val_loss},
)`;
