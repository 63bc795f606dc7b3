import 'uplot/dist/uPlot.min.css';
import './base.css';
import './charts.css';
import './runs.css';
