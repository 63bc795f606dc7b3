/** Which way a metric is better, as far as its name says it for certain; `metrics.py` has the same table. */

const split = (text: string): Set<string> => new Set(text.trim().split(/\s+/));

/** Words and phrases that say where the best value is; phrases are written without their separators. */
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
/** Words that say which part of the data, or which mean, a value is of. None of them turns a direction round. */
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
/** What losses are called after: beside them, a score may be one. */
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
/** Words of which a name with two is that of a gap or a ratio. */
const APART = [HELD_OUT, EXTREMES, split(`mean median`), split(`macro micro`)];
/** Words that a name of a count ends with; Lightning's names of metrics end with `step` and `epoch`. */
const COUNTERS = split(`batch iter iteration`);
/** Words that may stand beside one other word of their direction, as in `nll_loss`. */
const GENERIC = split(`
  loss losses error errors auc
`);
/** Words that a number may follow, besides those that say a direction. */
const NUMBERED = split(`
  top l at k idx fold dataloader
`);
const KNOWN = [LOWER, HIGHER, TRAINING, HELD_OUT, EXTREMES, COUNTED, KINDS, NEUTRAL];
const LONGEST_NAME = 1000;
const LONGEST_PHRASE = 6;
const ORDINARY = /^[A-Za-z0-9_][A-Za-z0-9_ ./:@|()[\]%-]*$/;
const HUMPS = /(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/g;

/** Whether the smallest or the largest value is the best; undefined where the name does not say it for certain. */
export function direction(name: string): 'min' | 'max' | undefined {
  if (name.length > LONGEST_NAME || !ORDINARY.test(name)) {
    return undefined;
  }
  const words =
    name
      .replace(HUMPS, ' ')
      .toLowerCase()
      .match(/[a-z]+|[0-9]+/g) ?? [];
  const phrases: string[] = [];
  const said: string[] = [];
  for (let at = 0; at < words.length;) {
    const phrase = longestPhrase(words, at) ?? number(words[at] ?? '', phrases, said);
    if (phrase === undefined) {
      return undefined;
    }
    if (LOWER.has(phrase.text) || HIGHER.has(phrase.text)) {
      said.push(phrase.text);
    }
    phrases.push(phrase.text);
    at += phrase.length;
  }
  const has = (some: Set<string>): boolean => phrases.some(phrase => some.has(phrase));
  const found = [...new Set(phrases)];
  const isApart = APART.some(some => found.filter(phrase => some.has(phrase)).length > 1);
  if ((has(TRAINING) && has(HELD_OUT)) || isApart) {
    return undefined; // a gap or a ratio
  }
  if (has(COUNTED) && (has(EXTREMES) || phrases.includes('em'))) {
    return undefined; // when it was the best; expectation maximization
  }
  const counter = phrases.filter(phrase => !/^[0-9]/.test(phrase)).at(-1) ?? '';
  if (
    COUNTERS.has(counter) ||
    phrases.some((phrase, i) => phrase === 'idx' && phrases[i - 1] !== 'dataloader')
  ) {
    return undefined;
  }
  if (said.length === 0) {
    const isTop = phrases.some((phrase, i) => phrases[i - 1] === 'top' && /^[0-9]/.test(phrase));
    return isTop || (phrases.includes('score') && !has(KINDS)) ? 'max' : undefined;
  }
  const isPair = said.length === 2 && said[0] !== said[1] && said.some(one => GENERIC.has(one));
  if (said.length > 1 && !isPair) {
    return undefined;
  }
  if (said.every(one => LOWER.has(one))) {
    return 'min';
  }
  return said.every(one => HIGHER.has(one)) ? 'max' : undefined;
}

interface IPhrase {
  text: string;
  length: number;
}

function longestPhrase(words: readonly string[], at: number): IPhrase | undefined {
  for (let length = Math.min(LONGEST_PHRASE, words.length - at); length > 0; length--) {
    const text = words.slice(at, at + length).join('');
    if (KNOWN.some(some => some.has(text))) {
      return { text, length };
    }
  }
  return undefined;
}

function number(
  word: string,
  phrases: readonly string[],
  said: readonly string[]
): IPhrase | undefined {
  const isNumber = /^[0-9]/.test(word) && (said.length > 0 || NUMBERED.has(phrases.at(-1) ?? ''));
  return isNumber ? { text: word, length: 1 } : undefined;
}
