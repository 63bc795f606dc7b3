/** The direction of a metric (lower or higher is better), derived from its name; `metrics.py` has the same rules. */

/** Returns whether the least or the greatest value of a metric is the best; undefined if that is unknown. */
export type Direction = (metric: string) => 'min' | 'max' | undefined;

const split = (text: string): Set<string> => new Set(text.trim().split(/\s+/));

/** Words and phrases (without separators) that imply a direction. */
const LOWER = split(`
  loss losses error errors err errorrate worderrorrate charerrorrate charactererrorrate
  tokenerrorrate perplexity ppl bpb bpc bpd mse rmse mae mape smape msle rmsle
  absolutepercentageerror wer cer ter mer fid kid lpips nll negloglikelihood
  negativeloglikelihood brier ece logloss crossentropy ce bce kl kld kldivergence jsdivergence
  regret deviance diceloss diceceloss iouloss giouloss jaccardloss
`);
const HIGHER = split(`
  acc accuracy f1 f2 fbeta fscore fmeasure auc auroc auprc precisionrecallauc precision recall
  sensitivity specificity ap map mrr ndcg bleu sacrebleu chrf rouge meteor bertscore iou miou
  dice jaccard r2 rsquared reward return psnr ssim kappa mcc elbo likelihood em exactmatch
  winrate hitrate successrate negmeansquarederror negrootmeansquarederror negmeanabsoluteerror
  negmedianabsoluteerror negmeanabsolutepercentageerror negmeansquaredlogerror
  negrootmeansquaredlogerror neglogloss negbrierscore negmaxerror negmeanpoissondeviance
  negmeangammadeviance
`);
/** Words for the part of the data or the kind of mean. None of them reverses a direction. */
const TRAINING = split(`
  train training
`);
const HELD_OUT = split(`
  val valid validation eval evaluation test dev holdout cv oof
`);
const EXTREMES = split(`
  best min max last final
`);
const COUNTED = split(`
  epoch step batch iter iteration idx
`);
/** Kinds of losses: beside these, `score` implies no direction. */
const KINDS = split(`
  l lsum squared absolute log root smooth huber focal hinge contrastive triplet ctc mlm lm box cls
  obj mask seg dfl
`);
const NEUTRAL = split(`
  mean avg average median sum total running smoothed ema overall global episode ep metric
  metrics macro micro weighted binary multiclass multilabel categorical sparse balanced adjusted
  class per token word char character pixel sentence image symmetric normalized normalised roc pr
  at k dataloader fold top score
`);
/** Groups of words; a name with two words of one group is a gap or a ratio. */
const CONTRASTS = [HELD_OUT, EXTREMES, split(`mean median`), split(`macro micro`)];
/** Last words of the names of counts. Not `step` and `epoch`, with which Lightning's names of metrics end. */
const COUNTERS = split(`batch iter iteration`);
/** Words that may accompany another word of their direction, as in `nll_loss`. */
const GENERIC = split(`
  loss losses error errors auc
`);
/** Words that a number may follow, besides those that imply a direction. */
const NUMBERED = split(`
  top l at k idx fold dataloader
`);
const KNOWN = [LOWER, HIGHER, TRAINING, HELD_OUT, EXTREMES, COUNTED, KINDS, NEUTRAL];
const MAX_NAME_LENGTH = 1000;
const MAX_PHRASE_LENGTH = 6;
const ORDINARY = /^[A-Za-z0-9_][A-Za-z0-9_ ./:@|()[\]%-]*$/;
const CAMEL_CASE = /(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/g;

/** Return whether the smallest or the largest value is the best; undefined if the name is ambiguous. */
export function direction(name: string): 'min' | 'max' | undefined {
  if (name.length > MAX_NAME_LENGTH || !ORDINARY.test(name)) {
    return undefined;
  }
  const words =
    name
      .replace(CAMEL_CASE, ' ')
      .toLowerCase()
      .match(/[a-z]+|[0-9]+/g) ?? [];
  const phrases: string[] = [];
  const directed: string[] = [];
  for (let at = 0; at < words.length;) {
    const phrase = longestPhrase(words, at) ?? toNumberPhrase(words[at] ?? '', phrases, directed);
    if (phrase === undefined) {
      return undefined;
    }
    if (LOWER.has(phrase.text) || HIGHER.has(phrase.text)) {
      directed.push(phrase.text);
    }
    phrases.push(phrase.text);
    at += phrase.length;
  }
  const has = (some: Set<string>): boolean => phrases.some(phrase => some.has(phrase));
  const distinct = [...new Set(phrases)];
  const isContrast = CONTRASTS.some(some => distinct.filter(phrase => some.has(phrase)).length > 1);
  if ((has(TRAINING) && has(HELD_OUT)) || isContrast) {
    return undefined; // a gap or a ratio
  }
  if (has(COUNTED) && (has(EXTREMES) || phrases.includes('em'))) {
    return undefined; // the time of the best value; `em` for expectation maximization
  }
  const counter = phrases.filter(phrase => !/^[0-9]/.test(phrase)).at(-1) ?? '';
  if (
    COUNTERS.has(counter) ||
    phrases.some((phrase, i) => phrase === 'idx' && phrases[i - 1] !== 'dataloader')
  ) {
    return undefined;
  }
  if (directed.length === 0) {
    const isTop = phrases.some((phrase, i) => phrases[i - 1] === 'top' && /^[0-9]/.test(phrase));
    return isTop || (phrases.includes('score') && !has(KINDS)) ? 'max' : undefined;
  }
  const isPair =
    directed.length === 2 && directed[0] !== directed[1] && directed.some(one => GENERIC.has(one));
  if (directed.length > 1 && !isPair) {
    return undefined;
  }
  if (directed.every(one => LOWER.has(one))) {
    return 'min';
  }
  return directed.every(one => HIGHER.has(one)) ? 'max' : undefined;
}

interface IPhrase {
  text: string;
  length: number;
}

function longestPhrase(words: readonly string[], at: number): IPhrase | undefined {
  for (let length = Math.min(MAX_PHRASE_LENGTH, words.length - at); length > 0; length--) {
    const text = words.slice(at, at + length).join('');
    if (KNOWN.some(some => some.has(text))) {
      return { text, length };
    }
  }
  return undefined;
}

function toNumberPhrase(
  word: string,
  phrases: readonly string[],
  directed: readonly string[]
): IPhrase | undefined {
  const isNumber =
    /^[0-9]/.test(word) && (directed.length > 0 || NUMBERED.has(phrases.at(-1) ?? ''));
  return isNumber ? { text: word, length: 1 } : undefined;
}
