/** Code with the colours of the editor, without an editor. */

import type { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { classHighlighter, highlightCode } from '@lezer/highlight';

/** A part of a line; its classes name the kind of token, and may be empty. */
export interface IToken {
  text: string;
  classes: string;
}

/** Return the tokens of each line of Python code; undefined if the language is not available. */
export type Highlighter = (code: string) => Promise<readonly (readonly IToken[])[] | undefined>;

export function createHighlighter(languages: IEditorLanguageRegistry | null): Highlighter {
  return async code => {
    const language = await languages?.getLanguage('ipython');
    if (language?.support === undefined) {
      return undefined;
    }
    const tree = language.support.language.parser.parse(code);
    let line: IToken[] = [];
    const lines = [line];
    highlightCode(
      code,
      tree,
      classHighlighter,
      (text, classes) => line.push({ text, classes }),
      () => lines.push((line = []))
    );
    return lines;
  };
}
