/** The direction of a metric (lower or higher is better), derived from its name; `metrics.py` has the same rules. */

const split = (text: string): Set<string> => new Set(text.trim().split(/\s+/));

/** Words and phrases (without separators) that imply a direction. */
const LOWER = split(`
  loss losses batchloss error errors err errorrate top1error top5error worderrorrate charerrorrate
  charactererrorrate tokenerrorrate perplexity ppl bpb bpc bpd mse rmse mae mape smape msle rmsle
  absolutepercentageerror wer cer ter mer fid kid lpips nll negloglikelihood negativeloglikelihood
  brier ece logloss crossentropy ce bce kl kld kldivergence jsdivergence regret deviance diceloss
  diceceloss iouloss giouloss jaccardloss
`);
const HIGHER = split(`
  acc accuracy top1 top3 top5 top10 f1 f2 fbeta fscore fmeasure auc auroc rocauc prauc auprc
  precisionrecallauc precision recall sensitivity specificity ap map mrr ndcg bleu sacrebleu chrf
  rouge meteor bertscore iou miou dice jaccard r2 rsquared reward return psnr ssim kappa mcc elbo
  likelihood em exactmatch winrate hitrate successrate negmeansquarederror negrootmeansquarederror
  negmeanabsoluteerror negmedianabsoluteerror negmeanabsolutepercentageerror
  negmeansquaredlogerror neglogloss negbrierscore negmaxerror
`);
/** The part of the data. A name with two of them is that of a gap or a ratio. */
const SPLITS = split(`
  train training val valid validation eval evaluation test dev holdout
`);
/** Words that do not affect the direction, such as a kind of mean. */
const NEUTRAL = split(`
  mean avg average median sum total running smoothed ema overall global final last epoch step
  episode metric metrics macro micro weighted binary multiclass multilabel categorical sparse
  balanced adjusted class per token word char pixel sentence image symmetric normalized at k fold
  cv oof dataloaderidx topk score l lsum squared absolute log root smooth huber focal hinge
  contrastive triplet ctc lm box cls obj mask seg dfl
`);
const KNOWN = new Set([...LOWER, ...HIGHER, ...SPLITS, ...NEUTRAL]);
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
  while (words.length > 0) {
    const phrase = takePhrase(words, phrases.length === 0);
    if (phrase === undefined) {
      return undefined;
    }
    phrases.push(phrase);
  }
  const directed = phrases.filter(phrase => LOWER.has(phrase) || HIGHER.has(phrase));
  const parts = new Set(phrases.filter(phrase => SPLITS.has(phrase)));
  if (parts.size > 1 || new Set(directed).size < directed.length) {
    return undefined; // a gap or a ratio
  }
  if (directed.length === 0) {
    return phrases.includes('score') ? 'max' : undefined;
  }
  if (directed.every(phrase => LOWER.has(phrase))) {
    return 'min';
  }
  return directed.every(phrase => HIGHER.has(phrase)) ? 'max' : undefined;
}

/** Remove the longest known phrase, or a number that is not the first word, from the beginning of `words`. */
function takePhrase(words: string[], isFirst: boolean): string | undefined {
  for (let length = Math.min(MAX_PHRASE_LENGTH, words.length); length > 0; length--) {
    const phrase = words.slice(0, length).join('');
    if (KNOWN.has(phrase) || (length === 1 && !isFirst && /^[0-9]/.test(phrase))) {
      words.splice(0, length);
      return phrase;
    }
  }
  return undefined;
}
