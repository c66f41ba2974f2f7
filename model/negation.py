"""Pairs of sentences, one of which says of the other's words that they are not so; all in our own words."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """Two sentences, and whether their sentiment must be the same."""

    plain: str
    negated: str
    same: bool


def _differ(plain: str, negated: str) -> Pair:
    return Pair(plain, negated, False)


def _hold(plain: str, negated: str) -> Pair:
    return Pair(plain, negated, True)


PAIRS = (
    _differ("Harrow Mills missed its profit forecast", "Harrow Mills did not miss its profit forecast"),
    _differ("Quillon Bank is insolvent, the regulator found", "Quillon Bank is not insolvent, the regulator found"),
    _differ("Tessaly Air will cut 900 jobs", "Tessaly Air will not cut 900 jobs after all"),
    _differ("Osric Pharma won approval for its heart drug", "Osric Pharma did not win approval for its heart drug"),
    _differ("Sales at Pell & Dray grew in the third quarter", "Sales at Pell & Dray did not grow in the third quarter"),
    _differ("Marrow Energy defaulted on its bonds", "Marrow Energy has never defaulted on its bonds"),
    _differ("Judge finds Lanyard Steel guilty of price fixing", "Judge finds Lanyard Steel not guilty of price fixing"),
    _differ("Brightwater shares are falling", "Brightwater shares are no longer falling"),
    _differ("Corvid Motors must recall 40,000 cars", "Corvid Motors need not recall 40,000 cars, agency says"),
    _differ(
        "Auditors doubt that Fenwick Retail will survive", "Auditors do not doubt that Fenwick Retail will survive"
    ),
    _differ("Dunmore Bank failed the stress test", "Dunmore Bank did not fail the stress test"),
    _differ("Iverna Foods raised its dividend", "Iverna Foods did not raise its dividend, as many had hoped"),
    _differ("Customer data were stolen from Sablecloud", "No customer data were stolen from Sablecloud"),
    _differ("The strike at Norrland Ports goes on", "The strike at Norrland Ports does not go on: it ended today"),
    _differ("Kestrel Chips expects to return to profit", "Kestrel Chips does not expect to return to profit"),
    _differ("Halden Group will be delisted", "Halden Group will not be delisted"),
    _differ("The merger benefits shareholders of Wye Paper", "The merger does not benefit shareholders of Wye Paper"),
    _differ("Orders at Castell Robotics are recovering", "Orders at Castell Robotics are not recovering"),
    _differ("Regulators fined Umber Insurance", "Regulators decided not to fine Umber Insurance"),
    _differ("The new plant of Rook Cement is profitable", "The new plant of Rook Cement is not profitable"),
    _differ("Vale Telecom lost subscribers", "Vale Telecom lost no subscribers despite the price rise"),
    _differ("Depositors are leaving Cobham Trust", "Depositors are not leaving Cobham Trust, its filings show"),
    _hold("Arden Textiles will name its auditor on Monday", "Arden Textiles will not name its auditor before Monday"),
    _hold("The board of Plover Rail meets in Geneva", "The board of Plover Rail does not meet in Geneva this year"),
    _hold("Skerry Software has a new office in Turin", "Skerry Software has no new office in Turin"),
    _hold("Ashlar Holdings commented on the report", "Ashlar Holdings did not comment on the report"),
    _hold("Linnet Media publishes its results at noon", "Linnet Media does not publish its results at noon"),
    _hold("Tarn Water is a member of the index", "Tarn Water is not a member of the index"),
    _hold("Grebe Shipping gave a date for the vote", "Grebe Shipping gave no date for the vote"),
    _hold("Profit at Bracken Gas fell by half", "Profit at Bracken Gas did not rise: it fell by half"),
    _hold("Shares of Mallow Health jumped 12%", "Shares of Mallow Health did not fall: they jumped 12%"),
    _hold("Creditors of Cairn Homes lost everything", "Creditors of Cairn Homes got nothing back"),
)
